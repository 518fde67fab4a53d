"""The settings the demo's sidecar runs on, with the breakers' times scaled to the length of the run."""

from collections.abc import Mapping
from pathlib import Path

import orjson

from proxy.demo.catalogue import popularity

CF_TIMEOUT_MS = 150
RECOMMEND_DEADLINE_MS = CF_TIMEOUT_MS + 250
"""While cf hangs: its timeout, which neighbours have to keep as well, and room for the way to the client."""

_TOML = """\
[listen]
address = "{front}"
[admin]
address = "{admin}"
[state]
directory = "state"
[log]
access_sample = 0.0
[deadlines]
drain_s = 5.0
drain_notice_s = 0.0

[upstreams.cf]
url = "{cf}"
timeout_ms = {cf_timeout_ms}
[upstreams.cf.breaker]
slow_call_ms = 100
{breaker}
[upstreams.content]
url = "{content}"
timeout_ms = {cf_timeout_ms}
neighbours_path = "/neighbours"
[upstreams.content.breaker]
{breaker}
[upstreams.payment]
url = "{payment}"
timeout_ms = 1000
[upstreams.payment.breaker]
{breaker}
[upstreams.email]
url = "{email}"
timeout_ms = 1000
[upstreams.email.breaker]
{breaker}

[[routes]]
name = "recommendations"
path = "/recommendations"
kind = "recommend"
methods = ["GET"]
sources = {{ cf = "cf", content = "content" }}
[[routes]]
name = "payment"
path = "/payment/"
upstream = "payment"
flag = "billing"
priority = "critical"
idempotency_key = true
[[routes]]
name = "email"
path = "/email/"
upstream = "email"
priority = "low"
idempotency_key = true
[[routes]]
name = "content"
path = "/content/"
upstream = "content"

[popularity]
file = "popularity.json"
"""

_BREAKER = """\
minimum_calls = 20
window_s = {window:.2f}
consecutive_failures = 5
cooldown_s = {cooldown:.2f}
cooldown_max_s = {cooldown_max:.2f}
probe_lease_s = 1.0
ramp_s = {ramp:.2f}
"""


def write(directory: Path, *, front: str, admin: str, upstreams: Mapping[str, str], seconds: float) -> Path:
    """Settings and popularity list into `directory`; the path of the settings. Addresses are `host:port`."""
    (directory / "popularity.json").write_bytes(orjson.dumps(popularity()))
    breaker = _BREAKER.format(
        window=min(10.0, seconds / 10),
        cooldown=min(5.0, seconds / 40),
        cooldown_max=min(10.0, seconds / 20),
        ramp=min(10.0, seconds / 20),
    )
    file = directory / "fusebox.toml"
    file.write_text(
        _TOML.format(front=front, admin=admin, cf_timeout_ms=CF_TIMEOUT_MS, breaker=breaker, **upstreams)
    )
    return file
