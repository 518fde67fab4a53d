"""The rollback in force: what the engine asks for, put on, remembered and told in the right order."""

import pytest
from rolling import Bench


@pytest.fixture
async def bench(tmp_path):
    return await Bench(tmp_path).begin()


async def test_a_source_that_fails_is_rolled_back_and_everything_is_told(bench):
    heard = []
    bench.control.heard = heard.append
    await bench.run(30)
    assert (bench.state, bench.stages) == ("NORMAL", [])
    assert await bench.run(30, failed=1.0, until="ROLLED_BACK")
    assert bench.stages == ["2"]
    await bench.control._keeper.settled(2)
    moves = [(it.before, it.to) for it in heard]
    assert (moves[0], moves[-1]) == (("NORMAL", "DEGRADED"), ("ROLLBACK_PENDING", "ROLLED_BACK"))
    assert bench.control.transitions.total() == len(moves)
    assert [it.action for it in bench.trail.entries] == ["rollback.transition"] * len(moves)
    entry = bench.trail.entries[-1]
    assert (entry.actor, entry.target, entry.before["state"]) == (
        "fusebox",
        "ROLLED_BACK",
        "ROLLBACK_PENDING",
    )
    assert entry.before["layers"] == "stage 1 for everybody"
    assert entry.after["layers"].startswith("stage 2 for everybody")
    assert bench.trail.entries[0].before["toggles"].startswith("exposure_percent=100.0")
    assert bench.trail.entries[0].after["toggles"] == 'exposure_percent=75 cache_mode="prewarm" for everybody'
    assert "disable_cf=true" in entry.after["toggles"]
    assert "error_p1" in bench.trail.entries[0].after["triggers"]
