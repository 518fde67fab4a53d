"""Which requests are recorded and what of them, and what happens when there is no room for it."""

import shutil
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from harness import answering, reply, turn
from recorded import ANY, Watched, entries, recording
from rig import ROUTE, policy

from proxy.core.actions import Rule
from proxy.core.audit import Entry
from proxy.core.audit_settings import Action
from proxy.core.policy import Route

GET = b"GET /p HTTP/1.1\r\nHost: x\r\nX-User-Id: u-1\r\n\r\n"


def one(spool: Watched) -> Entry:
    (found,) = spool.entries
    return found


async def test_only_what_the_rules_say(tmp_path: Path) -> None:
    routes = (
        replace(ROUTE, name="ruled", path="/ruled/"),
        replace(ROUTE, name="free", path="/free/"),
        Route(name="films", path="/films", kind="recommend"),
    )
    actions = [
        Action(action="made", path="/ruled/{id}", methods=("POST",), status=("2xx",), when_full="refuse"),
        Action(action="missed", path="/ruled/{id}", status=("404",), when_full="refuse"),
        Action(action="film", path="/films", when_full="refuse"),
    ]
    async with recording(tmp_path, actions=actions, routes=routes) as (rig, spool):
        for line in (b"GET /free/1", b"POST /free/1", b"GET /ruled/1", b"GET /films?user_id=1"):
            await rig.ask(line + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert spool.asked == 1, "no room is asked for what no rule fits"
        assert spool.entries == []
        await rig.ask(b"POST /ruled/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        rig.upstream.scripts[:] = [answering(reply(status=b"404 Not Found"))]
        for wire in rig.upstream.wires:
            wire.close()
        await turn()
        await rig.ask(b"POST /ruled/2 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [it.action for it in spool.entries] == ["user.made", "user.missed"]


async def test_fields_of_request_and_answer(tmp_path: Path) -> None:
    action = Action(
        action="plan.change",
        path="/account/{account}/plan",
        target=("path:account",),
        before=("answer:X-Old-Plan",),
        after=("query:plan",),
        reason=("header:X-Reason",),
        when_full="refuse",
    )
    script = answering(reply(b"", b"x-old-plan: basic", b"X-Other: 1"))
    raw = (
        b"POST /account/a%2D7/plan?plan=gold HTTP/1.1\r\nHost: x\r\nx-reason: \xff moved\r\n"
        b"Cookie: who=u-9\r\nX-User-Id: u-1\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n"
    )
    async with recording(tmp_path, script, actions=[action], trusted_proxies=("127.0.0.0/8",)) as (
        rig,
        spool,
    ):
        await rig.ask(raw)
        found = one(spool)
        assert (found.actor, found.subject, found.target) == ("u-1", "u-1", "a-7")
        assert (found.before, found.after) == ({"x-old-plan": "basic"}, {"plan": "gold"})
        assert (found.reason, found.address, found.instance) == ("\ufffd moved", "203.0.113.9", "here")
        assert found.at.endswith("Z")
        assert b"x-reason: \xff moved\r\n" in rig.upstream.data, "it goes on as it came"


async def test_who_is_not_trusted_cannot_say_where_it_comes_from(tmp_path: Path) -> None:
    async with recording(tmp_path) as (rig, spool):
        await rig.ask(GET.replace(b"Host", b"X-Forwarded-For: 203.0.113.9\r\nHost"))
        assert one(spool).address == "127.0.0.1"


async def test_a_share_is_recorded_and_the_rest_needs_no_room(tmp_path: Path) -> None:
    async with recording(tmp_path, actions=[replace(ANY, sample=0.25)]) as (rig, spool):
        draws = [n / 8 for n in range(8)]
        rig.plane._recorder._rng = iter(draws).__next__  # type: ignore[union-attr]
        for _ in draws:
            await rig.ask(GET)
        assert [it.sample for it in spool.entries] == [0.25, 0.25]
        assert spool.asked == 2


async def test_the_chance_of_the_rule_that_records_is_the_one_that_counts(tmp_path: Path) -> None:
    actions = [replace(ANY, sample=0.25, status=("2xx",)), replace(ANY, action="else")]
    async with recording(tmp_path, actions=actions) as (rig, spool):
        rig.plane._recorder._rng = lambda: 0.5  # type: ignore[union-attr]
        assert (await rig.ask(GET)).status == 200
        assert spool.entries == [], "the first rule fits, and its chance is against it"


async def test_a_reload_brings_other_rules_and_other_fields(tmp_path: Path) -> None:
    async with recording(tmp_path, actions=[]) as (rig, spool):
        await rig.ask(GET)
        assert spool.asked == 0
        action = replace(ANY, reason=("header:x-why",))
        rig.plane.apply(policy(rig.upstream.url, actions=(action,)))
        await rig.ask(GET.replace(b"Host", b"X-Why: because\r\nHost"))
        assert one(spool).reason == "because"
        rig.plane.apply(policy(rig.upstream.url))
        await rig.ask(GET)
        assert len(spool.entries) == 1


# -- no room


async def test_refused_when_full_and_nothing_is_sent(tmp_path: Path) -> None:
    small = {"limit": 16_384}
    async with recording(tmp_path, spool=small) as (rig, spool):
        while (answer := await rig.ask(GET)).status == 200:
            assert len(spool.entries) < 50
        recorded = spool.entries
        assert len(rig.upstream.requests) == len(recorded) > 0
        assert (answer.status, orjson.loads(answer.body)["code"]) == (503, "audit_full")
        assert answer.get("retry-after") == b"5"
        assert rig.counters.refusals == {"audit_full": 1}
        assert rig.counters.audit_lost == 0
        (complaint,) = rig.complaints
        assert "actions cannot be recorded" in complaint
        assert "audit.spool_bytes" in complaint
        await rig.ask(GET)
        assert len(rig.complaints) == 1, "said once"
        rig.complaints.clear()
        shutil.rmtree(tmp_path)
        assert (await rig.ask(GET)).status == 200, "room again"
        assert spool.entries


async def test_counted_when_full_and_traffic_goes_on(tmp_path: Path) -> None:
    async with recording(tmp_path, actions=[replace(ANY, when_full="count")], spool={"limit": 8192}) as (
        rig,
        spool,
    ):
        for _ in range(40):
            assert (await rig.ask(GET)).status == 200
        recorded = len(spool.entries)
        assert 0 < recorded < 40
        assert rig.counters.audit_lost == 40 - recorded
        assert rig.counters.actions["user.any", "done"] == recorded
        rig.complaints.clear()


async def test_a_disk_that_fails_when_the_answer_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was done: keeping its answer back would help nobody. The loss is counted and told."""
    async with recording(tmp_path) as (rig, _):
        await rig.ask(GET)
        with monkeypatch.context() as broken:
            broken.setattr("os.pwrite", lambda *_: 0)
            assert (await rig.ask(GET)).status == 200
        assert rig.counters.audit_lost == 1
        assert "only 0 of" in rig.complaints.pop()
        assert (await rig.ask(GET)).status == 200
        assert len(entries(tmp_path)) == 2


async def test_an_entry_that_cannot_be_made_costs_nobody_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> bytes:
        raise RuntimeError("on purpose")

    async with recording(tmp_path) as (rig, spool):
        monkeypatch.setattr(Rule, "written", broken)
        assert (await rig.ask(GET)).status == 200
        assert rig.counters.audit_lost == 1
        assert "on purpose" in rig.complaints.pop()
        assert spool.entries == []
