"""Signals of the data plane: every request for recommendations in one cell, with what it came to."""

from dataclasses import replace

import pytest
from harness import answering, reply, until
from recommending import GET, Recommended, hanging, many, offering, stage
from test_overrides import KEY, header

from proxy.clock import monotonic
from proxy.core.breaker import BreakerSettings
from proxy.core.override import Overrides
from proxy.core.policy import Identity, Shadow
from proxy.core.rollback.layers import Patch
from proxy.core.rollback.settings import RollbackSettings
from proxy.core.rollback.signals import LATE, Calls, Delta, Key, added, columns
from proxy.core.routing import BUCKETS
from proxy.core.toggles import Scope, Toggles

CF = offering(*many("cf", 20))
CONTENT = offering(*many("co", 20))
BROKEN = answering(reply(b"{}", status=b"500 Oops"))
EU = b"X-Region: eu\r\nX-Cohort: heavy\r\nX-Client: tv\r\n"
COLUMNS = (
    "requests", "failed", "broken", "refused", "slots", "filled", "short", "reads", "hits",
    *(f"late{at}" for at in range(2)),
)  # fmt: skip


def taken(rig):
    """What was counted since the last time."""
    return rig.plane.books.take(monotonic())


def cells(delta):
    """Each cell by what is not zero; of the latency buckets their sum."""
    shown = {}
    for key, counts in delta.cells.items():
        assert len(counts) == columns(len(delta.targets))
        buckets = LATE + len(delta.targets)
        named = dict(zip(COLUMNS, counts[:buckets], strict=False)) | {"timed": sum(counts[buckets:])}
        shown[key] = {name: count for name, count in named.items() if count}
    return shown


def exposed(*segment, side="exposed", arm="none"):
    return Key("films", arm, side, *segment)


GOOD = {"requests": 1, "slots": 4, "filled": 4, "timed": 1}


async def test_a_request_with_a_failing_source_is_one_cell_with_exactly_this():
    """The failing one is made up for by the other: failed, and not short of anything (facts 2.19, 2.20)."""
    async with stage(BROKEN, CONTENT) as rig:
        await rig.recommend(4, fields=EU)
        delta = taken(rig)
        assert delta.targets == RollbackSettings().targets == (0.075, 0.2)
        assert cells(delta) == {exposed(b"eu", b"heavy", b"tv"): GOOD | {"failed": 1}}
        assert delta.upstreams == {"cf": Calls(1, 1, 0), "content": Calls(1, 0, 0)}
        assert taken(rig) == Delta(targets=delta.targets)


async def test_what_no_source_filled_is_short():
    async with stage(BROKEN, offering(*many("co", 3))) as rig:
        await rig.recommend(4)
        assert cells(taken(rig)) == {exposed(): GOOD | {"failed": 1, "filled": 3, "short": 250}}


async def test_each_request_is_under_what_it_says_of_itself():
    """A value that is not well-formed is none, first seen or known; segments are told apart."""
    async with stage(CF, CONTENT) as rig:
        for region in (b"eu", b"eu", b"us", b"e\tu", b"x" * 300, b""):
            await rig.recommend(4, fields=b"X-Region: %b\r\n" % region if region else b"")
        counted = {key.region: counts["requests"] for key, counts in cells(taken(rig)).items()}
        assert counted == {b"eu": 2, b"us": 1, b"": 3}


async def test_segments_are_read_from_where_the_settings_say():
    identity = Identity(region=("query:region", "header:x-region"), client=("cookie:client",))
    async with stage(CF, CONTENT, identity=identity) as rig:
        await rig.recommend(4, b"&region=eu", b"Cookie: client=tv\r\n")
        assert cells(taken(rig)) == {exposed(b"eu", b"", b"tv"): GOOD}


async def test_who_is_under_a_stage_and_who_was_let_out_of_it_are_sides_of_their_own():
    """Each is judged alone; who is not meant by it goes on as exposed."""
    scope = Scope(region=("eu",))
    for low, side in ((0, "staged"), (BUCKETS, "recovered")):
        layers = (Patch("2", {"policy_mode": "content_only"}, scope, low=low),)
        async with stage(CF, CONTENT, layers=layers) as rig:
            await rig.recommend(4, fields=b"X-Region: eu\r\n")
            await rig.recommend(4, fields=b"X-Region: us\r\n")
            assert cells(taken(rig)) == {exposed(b"eu", side=side): GOOD, exposed(b"us"): GOOD}


async def test_who_has_no_user_is_cold_as_scopes_see_it():
    async with stage(CF, CONTENT) as rig:
        await rig.recommend(4)
        await rig.ask(b"GET /recommendations?k=4 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert cells(taken(rig)) == {exposed(): GOOD, exposed(b"", b"cold"): GOOD}


async def test_a_source_that_says_404_has_not_failed():
    async with stage(answering(reply(b"{}", status=b"404 Nobody")), CONTENT) as rig:
        await rig.recommend(4)
        assert cells(taken(rig)) == {exposed(): GOOD}


async def test_a_breaker_that_opened_by_itself_is_a_failure_and_one_held_open_is_a_decision():
    frail = {"cf": {"breaker": BreakerSettings(consecutive_failures=1, minimum_calls=1)}}
    async with stage(BROKEN, CONTENT, sources=frail) as rig:
        await rig.recommend(4)
        await rig.recommend(4)
        two = {name: 2 * count for name, count in (GOOD | {"failed": 1}).items()}
        delta = taken(rig)
        assert cells(delta) == {exposed(): two}
        assert delta.upstreams["cf"] == Calls(1, 1, 0)
        rig.plane.breakers["cf"].open(monotonic(), "by hand")
        await rig.recommend(4)
        assert cells(taken(rig)) == {exposed(side="decided"): {"requests": 1}}


async def test_killed_and_level_d_are_decided():
    async with stage(CF, CONTENT, toggles=Toggles(candidate_fallback_level="D")) as rig:
        await rig.recommend(4, fields=EU)
        rig.plane.apply(replace(rig.plane.policy, toggles=Toggles(kill_switch=True)))
        await rig.recommend(4, fields=EU)
        await rig.recommend(4, b"&genres=drama")
        assert cells(taken(rig)) == {exposed(side="decided"): {"requests": 3}}


@pytest.mark.parametrize("control", [None, offering(*many("ct", 20))])
async def test_control_is_a_side_of_its_own_where_somebody_answers_for_it(control):
    async with stage(CF, CONTENT, control=control, toggles=Toggles(exposure_percent=0)) as rig:
        await rig.recommend(4, fields=EU)
        expected = (
            {exposed(side="decided", arm="control"): {"requests": 1}}
            if control is None
            else {exposed(b"eu", b"heavy", b"tv", side="control", arm="control"): GOOD}
        )
        assert cells(taken(rig)) == expected


async def test_overridden_requests_are_not_judged():
    async with stage(BROKEN, CONTENT, overrides=Overrides(enabled=True), signing_key=KEY) as rig:
        await rig.recommend(4, fields=EU + header(policy_mode="collab_only"), aside=True)
        counted = cells(taken(rig))
        assert {key.side for key in counted} == {"override"}
        assert [(key.region, counts["failed"]) for key, counts in counted.items()] == [(b"", 1)]


async def test_second_plans_are_not_judged_and_what_they_copy_is():
    plan = {"shadow": Shadow(percent=100.0, toggles={"policy_mode": "collab_only"})}
    async with stage(BROKEN, CONTENT, route=plan) as rig:
        await rig.recommend(4)
        await until(lambda: rig.counters.aside("mirror").levels, "the copy's answer")
        counted = cells(taken(rig))
        assert {key.side: counts["requests"] for key, counts in counted.items()} == {
            "exposed": 1,
            "mirror": 1,
        }


async def test_refusals_and_clients_that_leave_are_no_requests():
    async with stage(hanging, CONTENT) as rig:
        answer = await rig.ask(b"GET /recommendations?user_id=7&k=x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.status == 400
        wire = await rig.client()
        wire.send(GET % (4, b"", EU))
        await rig.cf.until_requests(1)
        wire.reset()
        await until(lambda: not rig.counters.connections, "the end of the client")
        assert cells(taken(rig)) == {exposed(): {"refused": 2}}


async def test_hits_and_reads_of_the_cache_are_counted_where_it_is_read():
    async with stage(CF, CONTENT, toggles=Toggles(cache_mode="prewarm")) as rig:
        await rig.recommend(4)
        assert cells(taken(rig)) == {exposed(): GOOD | {"reads": 2}}
        await rig.recommend(4)
        assert cells(taken(rig)) == {exposed(): GOOD | {"reads": 2, "hits": 2}}


async def test_a_fault_of_ours_is_failed_and_broken(monkeypatch):
    async with stage(CF, CONTENT) as rig:
        monkeypatch.setattr("proxy.dataplane.recommend.first_round", None)
        await rig.recommend(4)
        assert "blending failed" in rig.complaints.pop()
        counted = {"requests": 1, "failed": 1, "broken": 1, "slots": 4, "short": 1000, "timed": 1}
        assert cells(taken(rig)) == {exposed(): counted}
        assert rig.slots == (4, 0)


async def test_a_hanging_source_counts_as_late_before_it_ends_and_once():
    """First the request and its lateness; the end adds what it came to."""
    slow = {"timeout_ms": 150, "breaker": BreakerSettings(slow_call_ms=40)}
    async with stage(hanging, CONTENT, sources={"cf": slow}) as rig:
        wire = await rig.client()
        wire.send(GET % (4, b"", EU))
        await rig.cf.until_requests(1)
        started = monotonic()
        assert cells(taken(rig)) == {}
        first = rig.plane.books.take(started + 0.08)
        assert cells(first) == {exposed(b"eu", b"heavy", b"tv"): {"requests": 1, "late0": 1}}
        Recommended(await wire.response(), 4)
        rest = taken(rig)
        assert added([first, rest]).upstreams["cf"] == Calls(1, 1, 1)  # slow as its breaker counts it
        whole = {"requests": 1, "failed": 1, "slots": 4, "filled": 4, "late0": 1, "timed": 1}
        assert cells(added([first, rest])) == {exposed(b"eu", b"heavy", b"tv"): whole}
        assert len(rig.plane.books.overdue) == 0


async def test_what_is_decided_is_not_late_either():
    async with stage(CF, hanging, sources={"content": {"timeout_ms": 150}}) as rig:
        rig.plane.breakers["cf"].open(monotonic(), "by hand")
        wire = await rig.client()
        wire.send(GET % (4, b"", b""))
        await rig.content.until_requests(1)
        assert cells(rig.plane.books.take(monotonic() + 0.1)) == {}
        Recommended(await wire.response(), 4)
        assert cells(taken(rig)) == {exposed(side="decided"): {"requests": 1}}


async def test_a_client_that_leaves_after_it_was_late_was_late():
    async with stage(hanging, CONTENT) as rig:
        wire = await rig.client()
        wire.send(GET % (4, b"", b""))
        await rig.cf.until_requests(1)
        first = rig.plane.books.take(monotonic() + 0.1)
        wire.reset()
        await until(lambda: not rig.counters.connections, "the end of the client")
        counted = {"requests": 1, "late0": 1, "timed": 1}
        assert cells(added([first, taken(rig)])) == {exposed(): counted}


async def test_other_targets_begin_anew_and_the_delta_names_them():
    async with stage(hanging, CONTENT) as rig:
        wire = await rig.client()
        wire.send(GET % (4, b"", b""))
        await rig.cf.until_requests(1)
        rig.plane.books.take(monotonic() + 0.1)
        (trigger, *_) = [it for it in RollbackSettings().triggers if it.target_ms]
        rollback = RollbackSettings(triggers=(replace(trigger, target_ms=40.0),))
        rig.plane.apply(replace(rig.plane.policy, rollback=rollback))
        delta = rig.plane.books.take(monotonic() + 0.1)
        assert delta.targets == (0.04,)
        assert cells(delta) == {exposed(): {"requests": 1, "late0": 1}}


async def test_whoever_listens_hears_what_was_counted_by_itself():
    """And a fault in whoever listens is none of the traffic's."""
    heard = []

    def hears(delta):
        heard.append(delta)
        if len(heard) == 1:
            raise AssertionError(delta)

    async with stage(CF, CONTENT, on_signals=hears) as rig:
        await until(lambda: heard, "the first delta")
        await rig.recommend(4)
        await until(lambda: added(heard).cells, "a delta")
        assert cells(added(heard)) == {exposed(): GOOD}
        assert rig.counters.signals_overflowed == 0
