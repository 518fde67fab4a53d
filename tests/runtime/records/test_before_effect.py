"""A change is in the store before it is true, and a kill is true before it is anywhere."""

import asyncio
import signal
import sqlite3
from collections import Counter
from contextlib import closing

import pytest
from fire import Users, report

from proxy.clock import monotonic
from proxy.tasks import spawn

# A disk that does not answer, for as long as a file says so: every commit waits for it, and an end does
# not wait as long for them as otherwise.
SHADOW = """
import pathlib, threading
from proxy.runtime import ledger
from proxy.storage import sqlite
ledger.END_S = 1.0
_hangs, _begin = pathlib.Path(__file__).with_name("hangs"), sqlite.SqliteStore._begin_write
def _begin_write(store):
    while _hangs.exists():
        threading.Event().wait(0.02)
    return _begin(store)
sqlite.SqliteStore._begin_write = _begin_write
"""


@pytest.fixture
def hangs(records):
    shadow = records.box.directory / "shadow"
    shadow.mkdir()
    (shadow / "sitecustomize.py").write_text(SHADOW)
    records.box.shadow = shadow
    return shadow / "hangs"


async def breaker(records, action, reason):
    return await records.box.api("POST", f"/v1/breakers/cf/{action}", records.token, json={"reason": reason})


async def forced(records):
    return (await records.box.api("GET", "/v1/breakers", records.token))[1]["cf"]["forced"]


async def kill(records, *, on):
    """How long it took until it was true."""
    began = monotonic()
    method = "PUT" if on else "DELETE"
    status, told = await records.box.api(method, "/v1/kill", records.token, json={"reason": "drill"})
    took = monotonic() - began
    assert (status, told["kill"]) == (200, on)
    return took


async def test_what_the_log_does_not_take_does_not_happen(records):
    await records.start()
    with closing(sqlite3.connect(records.database, isolation_level=None)) as other:
        other.execute(
            "CREATE TRIGGER drill BEFORE INSERT ON audit_entries WHEN NEW.action LIKE 'breaker.%'"
            " BEGIN SELECT RAISE(ABORT, 'drill'); END"
        )
        status, told = await breaker(records, "open", "refused")
        assert (status, told["code"]) == (503, "store_unavailable")
        assert "drill" in told["detail"]
        assert await forced(records) is None
        assert await kill(records, on=True) < 0.1
        other.execute("DROP TRIGGER drill")
    assert (await breaker(records, "open", "accepted"))[0] == 200
    assert await forced(records) == "open"
    assert await records.box.terminate() == 0
    found = [(it["action"], it["outcome"], it["reason"]) for it in records.sound() if "reason" in it]
    assert ("breaker.open", "accepted", "accepted") in found
    assert ("breaker.open", "accepted", "refused") not in found
    assert ("kill.on", "done", "drill") in found


async def test_a_change_waits_for_the_store_and_a_kill_does_not(records, hangs):
    await records.start()
    hangs.touch()
    async with Users(records.box.listen, pause_s=0.005) as users:
        waiting = spawn(breaker(records, "open", "slow"), "a change that waits")
        await users.more(50)
        took = [await kill(records, on=on) for on in (True, False, True)]
        assert max(took) < 0.1, took
        assert not waiting.done()
        assert await forced(records) is None
        hangs.unlink()
        assert (await waiting)[0] == 200
        assert await forced(records) == "open"
    assert set(users.statuses) == {200}
    assert await records.box.terminate() == 0
    actions = Counter((it["action"], it["outcome"]) for it in records.sound())
    assert actions["breaker.open", "accepted"] == 1
    assert (actions["kill.on", "done"], actions["kill.off", "accepted"]) == (2, 1)


@pytest.mark.parametrize("workers", [0, 2])
async def test_an_end_while_the_store_hangs(records, hangs, workers):
    """In bounded time, and the next start takes in what waits."""
    records.write(drain_s=2.0, storage="wait_s = 0.5")
    box = records.box
    box.options = ("--workers", "2") if workers else ()
    await records.start()
    users = Users(box.listen, pause_s=0.005)
    async with users:
        hangs.touch()
        await users.more(100)
        waiting = spawn(breaker(records, "open", "too late"), "a change that waits")
        await kill(records, on=True)
    began = monotonic()
    box.signal(signal.SIGTERM)
    await asyncio.wait([waiting])
    async with asyncio.timeout(20):
        assert await box.ended() == 0
    took = monotonic() - began
    report(f"an end while the store hangs, workers {workers}: {took:.1f} s")
    assert took < 2 + 13, took
    assert "Traceback" not in box.told.decode()
    assert list(records.spool.iterdir())

    hangs.unlink()
    await box.start()
    assert (await box.api("GET", "/v1/kill", records.token))[1]["kill"] is True
    assert await box.terminate() == 0
    entries = records.sound()
    times = Counter(it.get("request_id") for it in entries)
    assert [it for it in users.answered if times[it] != 1] == []
    actions = Counter((it["action"], it["outcome"]) for it in entries)
    assert (actions["kill.on", "done"], actions["sidecar.stop", "done"]) == (1, 2)
    accepted = [it for it in entries if (it["action"], it["outcome"]) == ("breaker.open", "accepted")]
    assert not accepted or actions["breaker.open", "failed"]
