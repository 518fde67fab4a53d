"""What the answer of an open breaker costs, beside a forward through a closed one.

The breaker opens by itself: its upstream refuses every connection.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import servers
from harness import Lab, Program, Subject, Unusable, alternate, get
from report import Finding, finish_samples, options, pace, ratio, script

TARGET = "/content/items/42"
NOWHERE = 9  # the discard port: nothing listens there
STAYS_OPEN = "consecutive_failures = 3\ncooldown_s = 3600\ncooldown_max_s = 3600\ncooldown_jitter = 0"


@contextmanager
def tripped(lab: Lab) -> Iterator[Program]:
    """Fusebox with the breaker of `content` open."""
    with servers.fusebox(lab, NOWHERE, breaker=STAYS_OPEN) as proxy:
        for _ in range(20):
            status, body = get(proxy.port, TARGET)
            if status == 503 and b"breaker_open" in body:
                break
        else:
            raise Unusable(
                f"the breaker did not open after 20 failures; the last answer was {status} {body!r}"
            )
        yield proxy


def main() -> int:
    chosen = options(__doc__, rounds=5, seconds=4).parse_args()
    servers.install_check(["nginx"])
    with (
        Lab(chosen.proxy_core, chosen.load_core) as lab,
        servers.nginx_answers(lab, {"/": servers.json_body(1024)}) as upstream,
    ):
        subjects = [
            Subject(name="open: 503", start=partial(tripped, lab), target=TARGET, refused=True),
            Subject(
                name="closed: forward", start=partial(servers.fusebox, lab, upstream.port), target=TARGET
            ),
        ]
        samples = alternate(lab, subjects, pace(chosen))
    opened, closed = (subject.name for subject in subjects)
    findings = [
        Finding(text="CPU per request, open ÷ closed", value=ratio(samples, "cpu_us", opened, closed))
    ]
    return finish_samples("breaker", chosen, samples, findings)


if __name__ == "__main__":
    script(main)
