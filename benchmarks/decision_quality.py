"""How well it decides: the incidents of config/incidents under our engine and under the policies of others.

Every policy sees the same drawn traffic as long as it has done the same. A time to act counts from the first
fault until the rollback is in force; an incident that is never rolled back counts as longer than any other.
Quiet days have every P1 metric exactly at its threshold, or at half of it: whoever rolls back then does so
by chance, since what is allowed is not exceeded. What does not release itself is released by a person there,
after an hour.
"""

import math
import statistics
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import ROOT, progress
from other_policies import ALLOWED, OTHERS, Looking
from report import Finding, Spread, finish, options, script, table

from proxy.core.simulation.engine import Deciding, targets
from proxy.core.simulation.incident import DAY_S, Incident, Traffic, Usual
from proxy.core.simulation.replay import Outcome, Pace, Subject, replay
from proxy.settings.incidents import load_incident

OURS = "Fusebox"
LIBRARY = ROOT / "config" / "incidents"
QUIET_PACE = Pace(tick=10.0, calm=10.0)
LEVELS = {"at the threshold": 1.0, "at half of it": 0.5}
PERSON_S = 3_600.0  # in quiet days
Start = Callable[[Incident, Random], Subject]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One incident, one policy, one seed. Seconds; None: never."""

    policy: str
    incident: str
    seed: int
    acts: bool  # whether it should be rolled back
    acted_s: float | None
    harmed: int
    requests: int
    withheld: int
    flaps: int
    false: int


def subjects() -> dict[str, Start]:
    """Whoever decides, by name, ours first."""
    made: dict[str, Start] = {OURS: lambda incident, _: Deciding(incident)}
    for other in OTHERS:
        made[other.name] = lambda incident, chance, other=other: Looking(
            other, chance.random(), math.inf if incident.faults else PERSON_S
        )
    return made


def suite() -> dict[str, Incident]:
    """The shipped incidents in which something breaks."""
    found = {path.stem: load_incident(path) for path in sorted(LIBRARY.glob("*.toml"))}
    return {name: it for name, it in found.items() if it.faults and it.expect is not None}


def quiet(level: float, days: float, per_s: float) -> Incident:
    """Every P1 metric at so much of what it allows."""
    late = ALLOWED["latency"] * level
    median, target = 40.0, 200.0
    # The 95th percentile of the lognormal of which just `late` is over the target.
    spread = math.log(target / median) / statistics.NormalDist().inv_cdf(1 - late)
    usual = Usual(
        errors=ALLOWED["error"] * level,
        short=ALLOWED["coverage"] * level,
        misses=0.3 * level,
        median_ms=median,
        p95_ms=median * math.exp(spread * statistics.NormalDist().inv_cdf(0.95)),
    )
    return Incident(title="quiet", seconds=days * DAY_S, traffic=Traffic(per_s=per_s), usual=usual)


def played(incident: Incident, start: Start, seed: int, pace: Pace) -> Outcome:
    subject = start(incident, Random(f"phase {seed}"))
    return replay(incident, subject, targets(incident), Random(seed).random, pace)


def incidents(chosen: Namespace) -> Iterator[Run]:
    pace = Pace(tick=chosen.tick)
    for name, incident in suite().items():
        progress(name)
        for policy, start in subjects().items():
            for seed in range(chosen.rounds):
                came = played(incident, start, seed, pace)
                yield Run(
                    policy=policy,
                    incident=name,
                    seed=seed,
                    acts=incident.expect is not None and incident.expect.acts,
                    acted_s=came.acted_s,
                    harmed=came.harmed,
                    requests=came.requests,
                    withheld=came.withheld,
                    flaps=came.flaps,
                    false=came.false,
                )


def false_alarms(chosen: Namespace) -> dict[tuple[str, str], list[int]]:
    """Rollbacks in quiet days, by policy and level, one figure for each seed."""
    found: dict[tuple[str, str], list[int]] = {}
    for level, share in LEVELS.items():
        incident = quiet(share, chosen.days, chosen.per_s)
        for policy, start in subjects().items():
            progress(f"{chosen.days:g} quiet days {level}: {policy}")
            found[policy, level] = [
                played(incident, start, seed, QUIET_PACE).rollbacks for seed in range(chosen.quiet_rounds)
            ]
    return found


def times(runs: Sequence[Run], policy: str, seed: int | None = None) -> list[float]:
    """To act, ascending; inf: never."""
    return sorted(
        math.inf if it.acted_s is None else it.acted_s
        for it in runs
        if it.policy == policy and it.acts and seed in {None, it.seed}
    )


def at(values: Sequence[float], share: float) -> float:
    """The value that so many are not above."""
    return values[min(len(values) - 1, max(0, math.ceil(share * len(values)) - 1))]


def shown(seconds: float) -> str:
    return "never" if math.isinf(seconds) else f"{seconds:,.1f}"


def ratio(runs: Sequence[Run], other: str, seeds: int) -> Spread:
    """Of the medians over the suite, seed by seed: ours ÷ the other's."""
    found = [at(times(runs, OURS, seed), 0.5) / at(times(runs, other, seed), 0.5) for seed in range(seeds)]
    return Spread(statistics.median(found), min(found), max(found))


def policy_table(runs: Sequence[Run], alarms: dict[tuple[str, str], list[int]]) -> str:
    rows = []
    for policy in subjects():
        mine = [it for it in runs if it.policy == policy]
        took = times(runs, policy)
        harmed = sum(it.harmed for it in mine if it.acts) / sum(it.requests for it in mine if it.acts)
        rows.append(
            [
                policy,
                shown(at(took, 0.5)),
                shown(at(took, 0.95)),
                f"{sum(map(math.isinf, took)) / len(took):.0%}",
                f"{harmed:.2%}",
                f"{sum(it.flaps for it in mine) / len(mine):.1f}",
                f"{statistics.mean(it.acted_s is not None for it in mine if not it.acts):.0%}",
                *(f"{statistics.mean(alarms[policy, level]):,.1f}" for level in LEVELS),
            ]
        )
    head = ["", "s to act, median", "p95", "never", "bad answers", "flaps", "acted wrongly",
            *(f"false, {level}" for level in LEVELS)]  # fmt: skip
    return table(head, rows)


def incident_table(runs: Sequence[Run]) -> str:
    """Median seconds to act, incident by incident; in brackets what should not be acted upon."""
    rows = []
    for name in dict.fromkeys(it.incident for it in runs):
        row = [name if next(it.acts for it in runs if it.incident == name) else f"({name})"]
        for policy in subjects():
            took = sorted(
                math.inf if it.acted_s is None else it.acted_s
                for it in runs
                if it.incident == name and it.policy == policy
            )
            row.append(shown(at(took, 0.5)))
        rows.append(row)
    return table(["s to act, median", *subjects()], rows)


def findings(runs: Sequence[Run], alarms: dict[tuple[str, str], list[int]], seeds: int) -> list[Finding]:
    medians = {it.name: at(times(runs, it.name), 0.5) for it in OTHERS}
    wrongly = {policy: statistics.mean(alarms[policy, "at the threshold"]) for policy in subjects()}
    careful = {name: it for name, it in medians.items() if wrongly[name] <= wrongly[OURS]}
    quickest = min(medians, key=medians.__getitem__)
    found = [
        Finding(text=f"time to act ÷ that of the quickest other ({quickest})",
                value=ratio(runs, quickest, seeds), at_most=0.2),
    ]  # fmt: skip
    if careful:
        best = min(careful, key=careful.__getitem__)
        found.append(
            Finding(text=f"time to act ÷ that of the quickest other with no more false rollbacks ({best})",
                    value=ratio(runs, best, seeds), at_most=0.2)
        )  # fmt: skip
    for level in LEVELS:
        least = min(statistics.mean(alarms[it.name, level]) for it in OTHERS)
        ours = [n - least for n in alarms[OURS, level]]
        value = Spread(statistics.mean(ours), min(ours), max(ours))
        found.append(
            Finding(
                text=f"false rollbacks {level}, beyond those of the most careful", value=value, at_most=0.0
            )
        )
    return found


def main() -> int:
    parser = options(__doc__, rounds=20)
    parser.add_argument("--tick", type=float, default=0.25, help="virtual seconds, while something happens")
    parser.add_argument("--days", type=float, default=30.0, help="quiet ones")
    parser.add_argument("--per-s", type=float, default=20.0, help="requests a second in quiet days")
    parser.add_argument("--quiet-rounds", type=int, default=3, help="how often those days are gone through")
    chosen = parser.parse_args()
    runs = list(incidents(chosen))
    alarms = false_alarms(chosen)
    print(policy_table(runs, alarms) + "\n\n" + incident_table(runs))
    rows = [asdict(it) for it in runs]
    rows += [
        {"policy": policy, "level": level, "days": chosen.days, "rollbacks": counts}
        for (policy, level), counts in alarms.items()
    ]
    return finish("decision_quality", chosen, rows, findings(runs, alarms, chosen.rounds))


if __name__ == "__main__":
    script(main)
