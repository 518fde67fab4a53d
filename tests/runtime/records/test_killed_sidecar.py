"""`kill -9` at random moments, under load: what anybody was told is in the log, once."""

import asyncio
import os
import random
import re
import signal
from collections import Counter
from contextlib import suppress

import pytest
from fire import Operators, Users, make_tokens, report

ROUNDS = int(os.environ.get("FUSEBOX_KILLS", "3"))


class Told:
    """What clients were told, over all rounds."""

    def __init__(self):
        self.changes = {}
        self.actions = set()
        self.asked = set()

    def add(self, operators, users):
        self.changes |= operators.acknowledged
        self.asked |= set(operators.asked)
        self.actions |= users.answered.keys()


def pids_of_workers(box):
    return [line["pid"] for line in box.lines if re.fullmatch(r"worker \d+ started", line["message"])]


def end(box, pids):
    box.signal(signal.SIGKILL)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def stored(entries, told):
    """Every change that was acknowledged before it took effect stands in the store, whatever was killed."""
    there = Counter(it.get("request_id") for it in entries)
    return [id_ for id_, path in told.changes.values() if path != "/v1/kill" and there[id_] != 1]


@pytest.mark.timeout(60 + 10 * ROUNDS)
@pytest.mark.parametrize("workers", [0, 2])
async def test_what_was_told_outlives_the_sidecar(records, workers):
    box, told = records.box, Told()
    box.options = ("--workers", str(workers)) if workers else ()
    tokens = make_tokens(box, 5)
    chance = random.Random(os.environ.get("FUSEBOX_KILL_SEED", "fusebox"))
    for number in range(ROUNDS):
        await box.start()
        users, operators = Users(box.listen), Operators(box, tokens)
        async with operators, users:
            await asyncio.wait([box.readers[0]], timeout=chance.uniform(0.05, 0.5))
            end(box, pids_of_workers(box) if chance.random() < 0.5 else ())
        await box.ended()
        told.add(operators, users)
        assert not operators.refused, operators.refused
        assert stored(records.entries(), told) == [], f"round {number}"
    box.options = ()
    await box.start()
    killed = (await box.api("GET", "/v1/kill", tokens[0]))[1]["kill"]
    assert killed in {operators.kill, operators.pending_kill}
    assert await box.terminate() == 0
    assert [it.name for it in records.spool.iterdir()] == []

    entries = records.sound()
    by_id = Counter(it.get("request_id") for it in entries)
    by_reason = Counter(it.get("reason") for it in entries)
    lost = [it for it, _ in told.changes.values() if not by_id[it]] + [
        it for it in told.actions if not by_id[it]
    ]
    again = [it for it, times in by_id.items() if it and times > 1]
    again += [it for it in told.asked if by_reason[it] > 1]
    assert Counter(it["action"] for it in entries)["sidecar.start"] == ROUNDS + 1
    report(
        f"workers {workers}: {ROUNDS} kills, {len(told.changes)} changes acknowledged "
        f"({sum(path == '/v1/kill' for _, path in told.changes.values())} kills), {len(told.actions)} "
        f"actions answered, {len(entries)} entries, {len(lost)} lost, {len(again)} twice"
    )
    assert (lost, again) == ([], [])
    assert len(told.changes) > 5 * ROUNDS
    assert len(told.actions) > 20 * ROUNDS
