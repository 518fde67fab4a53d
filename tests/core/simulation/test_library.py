"""The shipped incidents, played: what each file expects comes of it, whatever the seed."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from proxy.core.simulation.engine import simulate
from proxy.core.simulation.expected import unmet
from proxy.core.simulation.incident import DAY_S
from proxy.core.simulation.replay import Pace
from proxy.settings.incidents import load_incident

LIBRARY = sorted((Path(__file__).parents[3] / "config" / "incidents").glob("*.toml"))
SEEDS = (1, 2)
PACE = Pace(tick=1.0)
QUIET_DAYS = 1.0  # of the thirty that the file says, which take too long here


def played(path, seed):
    incident = load_incident(path)
    if not incident.faults:
        incident = replace(incident, seconds=min(incident.seconds, QUIET_DAYS * DAY_S))
    return incident, simulate(incident, Random(seed).random, PACE)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_it_comes_as_the_file_expects(path, seed):
    if seed > 1 and path.stem in {"quiet", "diurnal"}:
        pytest.skip("a day is long: one of them")
    incident, outcome = played(path, seed)
    assert unmet(incident.expect, outcome) == (), [it[:4] for it in outcome.moments]


def test_each_named_kind_of_incident_is_there():
    assert {path.stem for path in LIBRARY} == {
        "cache_collapse", "coverage_loss", "diurnal", "early_recovery", "errors_03_percent",
        "errors_2_percent", "flapping_dependency", "hanging_calls", "latency_step", "load_shift",
        "low_traffic", "one_region", "passing_spike", "quiet", "shared_outage", "slow_burn", "step_outage",
    }  # fmt: skip


def test_acting_spares_users_most_of_what_an_incident_would_have_cost():
    """Against the same traffic with an engine that only watches."""
    incident = load_incident(LIBRARY[[path.stem for path in LIBRARY].index("step_outage")])
    acting = simulate(incident, Random(1).random, PACE)
    watching = replace(incident, rollback=replace(incident.rollback, mode="watch"))
    watched = simulate(watching, Random(1).random, PACE)
    assert watched.layers == ()
    assert watched.withheld == 0
    assert acting.harmed < watched.harmed / 50
