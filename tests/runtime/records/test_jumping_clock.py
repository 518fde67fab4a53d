"""The wall clock of the whole sidecar jumps back and forth: it labels, it decides nothing but expiry."""

import signal
from collections import Counter

import pytest
from fire import Operators, Users

from proxy.core.roles import Role
from proxy.storage.tokens import TokenFile

# Found by every Python that starts with this directory in front: the clock is off by what a file says.
SHADOW = """
import pathlib, sys, time
_offset, _real = pathlib.Path(__file__).with_name("offset"), time.time
def _wall():
    try:
        return _real() + float(_offset.read_text() or 0)
    except (OSError, ValueError):
        return _real()
import proxy.clock
proxy.clock.wall = _wall
"""
DAY = 86_400


@pytest.fixture
def jump(records):
    shadow = records.box.directory / "shadow"
    shadow.mkdir()
    (shadow / "sitecustomize.py").write_text(SHADOW)
    records.box.shadow = shadow

    def to(offset_s):
        beside = shadow / "beside"
        beside.write_text(str(offset_s))
        beside.replace(shadow / "offset")

    to(0)
    return to


async def test_a_clock_that_jumps(records, jump):
    records.write(audit="segment_entries = 64\nretention_days = 30\ncheckpoint_entries = 100")
    box = records.box
    await records.start(tokens=4)
    shortlived = TokenFile(box.directory / "var" / "tokens.json").create("short", Role.VIEWER, ttl_s=3_600)
    users, operators = Users(box.listen, pause_s=0.005), Operators(box, records.tokens)
    async with users, operators:
        for offset_s, counts in ((0, 200), (400 * DAY, 401), (-400 * DAY, 200), (7_200, 401), (0, 200)):
            jump(offset_s)
            await users.more(150)
            status, _ = await box.api("GET", "/v1/kill", shortlived)
            assert (offset_s, status) == (offset_s, counts)  # expiry goes by the clock as it is now
            assert (await box.api("GET", "/v1/kill", records.token))[0] == 200
    assert users.failures == []
    assert set(users.statuses) == {200}
    assert operators.refused == {}
    jump(-400 * DAY)
    box.signal(signal.SIGKILL)
    await box.ended()
    for offset_s in (400 * DAY, -400 * DAY, 0):
        jump(offset_s)
        await box.start()
        assert (await box.get("/payment/one")).status == 200
        assert await box.terminate() == 0
    assert not [line for line in box.lines if line.get("level") in {"error", "critical"}], box.lines

    entries = records.sound()  # nothing was dropped, and numbers are the order
    years = [it["at"][:4] for it in entries]
    assert years != sorted(years)
    assert len(set(years)) > 1
    times = Counter(it.get("request_id") for it in entries)
    told = [*users.answered, *(id_ for id_, _ in operators.acknowledged.values())]
    assert [it for it in told if times[it] != 1] == []
    assert not [it for it in entries if it["action"] == "audit.segments_dropped"]
