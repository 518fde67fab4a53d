"""CPU per request, requests/s, latency, memory: Fusebox beside nginx, HAProxy, Envoy, an aiohttp proxy.

And beside two floors: the barest proxy on uvloop and httptools, and one that reads and rewrites heads as
Fusebox does and does nothing else. What a floor misses in the same run cannot be had from plain Python that
does as much.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import servers
from harness import Lab, Program, Subject, alternate
from report import Finding, finish_samples, options, pace, ratio, script

PEERS: dict[str, Callable[[Lab, int], AbstractContextManager[Program]]] = {
    "fusebox": servers.fusebox,
    "nginx": servers.nginx_proxy,
    "haproxy": servers.haproxy,
    "envoy": servers.envoy,
    "aiohttp": servers.aiohttp,
    "floor": servers.floor_proxy,
    "strict floor": partial(servers.floor_proxy, script="strict_floor.py"),
}
FLOORS = ("floor", "strict floor")
AT_MOST = {"nginx": 2.3, "haproxy": None, "envoy": 0.6, "aiohttp": 0.2}  # times the CPU that the peer needs


def main() -> int:
    parser = options(__doc__, rounds=5, seconds=4)
    parser.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS), help="these proxies only")
    parser.add_argument("--body", type=int, default=1024, help="bytes of the upstream's JSON answer")
    chosen = parser.parse_args()
    servers.install_check(chosen.only)
    with (
        Lab(chosen.proxy_core, chosen.load_core) as lab,
        servers.nginx_answers(lab, {"/": servers.json_body(chosen.body)}) as upstream,
    ):
        subjects = [
            Subject(name=name, start=partial(PEERS[name], lab, upstream.port), target="/content/items/42")
            for name in chosen.only
        ]
        samples = alternate(lab, subjects, pace(chosen))
    findings = [
        Finding(
            text=f"CPU per request, {subject} ÷ {peer}",
            value=ratio(samples, "cpu_us", subject, peer),
            at_most=bound if subject == "fusebox" else None,
        )
        for peer, bound in AT_MOST.items()
        for subject in ("fusebox", *FLOORS)
        if {subject, peer} <= set(chosen.only)
    ]
    return finish_samples("peers", chosen, samples, findings)


if __name__ == "__main__":
    script(main)
