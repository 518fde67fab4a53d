"""What scoped rules cost: one decision by itself, and a blended request under none and under ten thousand.

Decisions are made for users from all over: regions, cohorts and clients that rules name, and others. A third
of the rules names a region, a third region and client, a third region and cohort, so that several shapes have
to be looked up. Under load no rule fits, so that both answer the same: the region is the user's id.
"""

import gc
import random
import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import servers
from harness import Lab, Sample, Subject, alternate
from recommend import CANDIDATES, candidates
from report import Finding, Spread, finish, options, pace, ratio, sample_table, script, table

from proxy.core.decide import Decider
from proxy.core.experiment import Experiment
from proxy.core.identity import Who
from proxy.core.policy import Route, Sources
from proxy.core.routing import SALT, bucket
from proxy.core.scopes import Scopes
from proxy.core.toggles import COHORT_ALPHAS, Rule, Scope, Toggles

RULES = (0, 3, 100, 10_000)
FEW = 3  # one of each shape: what 10 000 are compared with
ROUTE = Route(name="r", path="/r", kind="recommend", sources=Sources(cf="a", content="b", control="c"))
COHORTS = tuple(COHORT_ALPHAS)
BY_USER = '[identity]\nregion = ["header:x-user-id"]'
SETS = ({"policy_mode": "content_only"}, {"exposure_percent": 50}, {"candidate_fallback_level": "D"})


def rules(number: int) -> tuple[Rule, ...]:
    """So many, in the three shapes by turns."""
    scopes = (
        lambda n: Scope(region=(f"region-{n}",)),
        lambda n: Scope(region=(f"region-{n}",), client=("tv", "web")),
        lambda n: Scope(region=(f"region-{n}",), cohort=(COHORTS[n % 4],)),
    )
    return tuple(Rule(scope=scopes[n % 3](n), toggles=SETS[n % 3]) for n in range(number))


def documented(listed: Sequence[Rule]) -> list[dict[str, object]]:
    """As they stand in a toggles document."""
    return [
        {
            "scope": {key: names for key, names in rule.scope._asdict().items() if names},
            "toggles": rule.toggles,
        }
        for rule in listed
    ]


def asking(requests: int, regions: int) -> list[tuple[Who, bytes, int]]:
    """Users from so many regions, nine in ten of them named by rules where there are any."""
    chance = random.Random(4)
    asks = []
    for n in range(requests):
        user = b"user-%08d" % n
        region = b"region-%d" % chance.randrange(regions * 10 // 9 + 1)
        client = chance.choice((b"tv", b"web", b"phone"))
        who = Who(user, region, chance.choice(COHORTS).encode(), client)
        asks.append((who, user, bucket(user, SALT)))
    return asks


def microseconds(decider: Decider, asks: list[tuple[Who, bytes, int]]) -> float:
    """CPU per decision, of the second of two walks: tables are made in the first."""
    decide = decider.decide
    for _ in range(2):
        started = time.process_time()
        for who, key, exposure in asks:
            decide(who, key, exposure)
        seconds = time.process_time() - started
    return seconds / len(asks) * 1e6


def deciders(experiment: Experiment) -> dict[int, Decider]:
    made = {}
    for number in RULES:
        toggles = Toggles(rules=rules(number), exposure_percent=90)
        made[number] = Decider(ROUTE, toggles, experiment, Scopes(toggles.scope, toggles.rules))
    return made


def building(number: int) -> float:
    """Milliseconds until the first decision under so many rules."""
    listed = rules(number)
    started = time.perf_counter()
    Scopes(Scope(), listed).rule(b"x", b"y", b"z")
    return (time.perf_counter() - started) * 1000


def spread(values: list[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def measure(chosen: Namespace) -> tuple[list[list[str]], list[Finding]]:
    asks = asking(chosen.requests, chosen.regions)
    taken: dict[tuple[str, int], list[float]] = {}
    made = {"no experiment": deciders(Experiment()), "hybrid_v1": deciders(Experiment(name="hybrid_v1"))}
    gc.freeze()
    gc.disable()
    for _ in range(chosen.rounds):
        for name, by_number in made.items():
            for number, decider in by_number.items():
                taken.setdefault((name, number), []).append(microseconds(decider, asks))
    gc.enable()
    rows = [[f"{name}, {number:,} rules", spread(us).show(2)] for (name, number), us in taken.items()]
    most, few = (taken["no experiment", number] for number in (RULES[-1], FEW))
    findings = [
        Finding(
            text=f"a decision, {RULES[-1]:,} ÷ {FEW} rules",
            value=spread([m / f for m, f in zip(most, few, strict=True)]),
        ),
        Finding(
            text=f"ms to sort {RULES[-1]:,} rules, once per change",
            value=spread([building(RULES[-1]) for _ in range(chosen.rounds)]),
        ),
    ]
    return rows, findings


def under_load(chosen: Namespace) -> tuple[list[Sample], Finding]:
    """Blended requests of a running sidecar."""
    answers = {"/candidates/cf": candidates(0), "/candidates/content": candidates(CANDIDATES // 2)}
    with (
        Lab(chosen.proxy_core, chosen.load_core) as lab,
        servers.nginx_answers(lab, answers) as upstream,
    ):
        start = partial(servers.fusebox, lab, upstream.port, sections=BY_USER)
        target = "/recommendations?user_id={user}&k=10"
        subjects = [
            Subject(
                name=f"blended, {RULES[-1]:,} rules",
                start=partial(start, rules=documented(rules(RULES[-1]))),
                target=target,
            ),
            Subject(name="blended, 0 rules", start=start, target=target),
        ]
        samples = alternate(lab, subjects, pace(chosen))
    ours, none = (subject.name for subject in subjects)
    return samples, Finding(
        text=f"CPU per blended request, {RULES[-1]:,} ÷ 0 rules",
        value=ratio(samples, "cpu_us", ours, none),
        at_most=1.1,
    )


def main() -> int:
    parser = options(__doc__, rounds=5, seconds=4)
    parser.add_argument("--requests", type=int, default=50_000, help="different users per walk")
    parser.add_argument("--regions", type=int, default=10_000, help="different regions they come from")
    chosen = parser.parse_args()
    servers.install_check(["nginx"])
    rows, findings = measure(chosen)
    print(table(["", "µs per decision"], rows) + "\n")
    samples, finding = under_load(chosen)
    print(sample_table(samples))
    decisions = [{"subject": subject, "us": us} for subject, us in rows]
    return finish("decide", chosen, [*decisions, *map(asdict, samples)], [finding, *findings])


if __name__ == "__main__":
    script(main)
