"""What it costs a forwarded request to be recorded as an action of a user, before its answer goes out.

The same data plane four times: without rules, with rules on its route that do not fit, with one that fits
(one write into the spool), and with that write flushed to the disk.
"""

from collections.abc import Sequence
from functools import partial

import servers
from harness import Lab, Sample, Subject, alternate
from report import Finding, Spread, finish_samples, options, pace, ratio, script, spread

TARGET = "/content/items/42?plan=gold"
LIMIT = "[audit]\nspool_bytes = 1_073_741_824\n"
FITS = """
[[audit.actions]]
action = "item.read"
route = "content"
path = "/content/items/{item}"
target = ["path:item"]
after = ["query:plan"]
"""
OTHERS = """
[[audit.actions]]
action = "item.write"
route = "content"
methods = ["POST", "PUT"]
path = "/content/items/{item}"
[[audit.actions]]
action = "list.read"
route = "content"
path = "/content/lists/{list}"
[[audit.actions]]
action = "item.delete"
path = "/content/items/{item}/delete"
"""
RECORDED = LIMIT + OTHERS + FITS
SUBJECTS = {
    "no rules": LIMIT,
    "no rule fits": LIMIT + OTHERS,
    "recorded": RECORDED,
    "recorded, flushed": LIMIT + "spool_sync = true\n" + FITS,
}


def added(samples: Sequence[Sample], subject: str) -> Spread:
    """µs of CPU above those of a request without rules, taken within each round."""
    of = {(s.subject, s.round): s.cpu_us for s in samples}
    rounds = {s.round for s in samples}
    return spread([of[subject, r] - of["no rules", r] for r in rounds])


def main() -> int:
    chosen = options(__doc__, rounds=7, seconds=4).parse_args()
    servers.install_check(["nginx"])
    with (
        Lab(chosen.proxy_core, chosen.load_core) as lab,
        servers.nginx_answers(lab, {"/": servers.json_body(1024)}) as upstream,
    ):
        subjects = [
            Subject(
                name=name,
                start=partial(servers.recording_plane, lab, upstream.port, settings),
                target=TARGET,
            )
            for name, settings in SUBJECTS.items()
        ]
        samples = alternate(lab, subjects, pace(chosen))
    of = partial(ratio, samples, "cpu_us")
    findings = [
        Finding(text="CPU, no rule fits ÷ no rules", value=of("no rule fits", "no rules")),
        Finding(text="CPU, recorded ÷ no rules", value=of("recorded", "no rules"), at_most=1.35),
        Finding(text="µs per recorded action", value=added(samples, "recorded"), digits=1),
        Finding(text="CPU, recorded and flushed ÷ no rules", value=of("recorded, flushed", "no rules")),
        Finding(
            text="p50 ms, recorded and flushed",
            value=spread([s.p50_ms for s in samples if s.subject == "recorded, flushed"]),
        ),
    ]
    return finish_samples("actions", chosen, samples, findings)


if __name__ == "__main__":
    script(main)
