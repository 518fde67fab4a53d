"""A blended request whose sources are remembered, beside one that asks them without a cache, or filling one.

Filling is what every request does while nobody reads the cache; 4096 users come round in turn.
"""

from functools import partial

import servers
from harness import Lab, Subject, Unusable, alternate, get
from recommend import CANDIDATES, candidates
from report import Finding, finish_samples, options, pace, ratio, script

READS = ({"scope": {"client": ["web"]}, "toggles": {"cache_mode": "prewarm"}},)  # what the load says it is
NO_CACHE = "[cache]\nmax_bytes = 0\n"


def check(port: int, target: str) -> None:
    """An answer of level A, whatever it was made of."""
    status, body = get(port, target.replace("{user}", "user-00000000"))
    if status != 200 or b'"level":"A"' not in body:
        raise Unusable(f"the sidecar answered {status}: {body[:300]!r}")


def main() -> int:
    parser = options(__doc__, rounds=5, seconds=4)
    parser.add_argument("--k", type=int, default=10, help="items asked for")
    chosen = parser.parse_args()
    target = f"/recommendations?user_id={{user}}&k={chosen.k}"
    sources = {
        "/candidates/cf": candidates(0),
        "/candidates/content": candidates(CANDIDATES // 2),
    }
    servers.install_check(["nginx"])
    with Lab(chosen.proxy_core, chosen.load_core) as lab, servers.nginx_answers(lab, sources) as upstream:
        start = partial(servers.fusebox, lab, upstream.port)
        with start() as proxy:
            check(proxy.port, target)
        subjects = [
            Subject(name="no cache", start=partial(start, sections=NO_CACHE), target=target),
            Subject(name="filling it", start=start, target=target),
            Subject(name="reading it", start=partial(start, rules=READS), target=target),
        ]
        samples = alternate(lab, subjects, pace(chosen))
    none, filling, reading = (subject.name for subject in subjects)
    findings = [
        Finding(
            text="CPU per request, filling ÷ no cache",
            value=ratio(samples, "cpu_us", filling, none),
            at_most=1.1,
        ),
        Finding(
            text="CPU per request, reading ÷ no cache",
            value=ratio(samples, "cpu_us", reading, none),
            at_most=0.75,
        ),
    ]
    print(f"k = {chosen.k}, {CANDIDATES} candidates of each source\n")
    return finish_samples("cache", chosen, samples, findings)


if __name__ == "__main__":
    script(main)
