"""`X-Fusebox-Override` on the wire: what it changes, for whom, and what it never does."""

import logging
from dataclasses import replace

import orjson
import pytest
from harness import answering, reply
from recommending import FILMS, GET, many, offering, stage

from proxy.clock import wall
from proxy.core.decide import MAX_LAID
from proxy.core.experiment import Experiment
from proxy.core.override import Override, Overrides, sign
from proxy.core.policy import Route, Toggles
from proxy.core.signing import Kind
from proxy.core.toggles import Rule, Scope

KEY = b"k" * 32
CF = offering(*many("cf", 20))
CONTENT = offering(*many("co", 20))
CONTROL = offering(*many("ctl", 20))
LABELS = ("arm", "exposed", "policy", "alpha", "level")


def token(*, key=KEY, ttl=3_000, at=None, **toggles):
    at = int(wall()) if at is None else at
    return sign(key, Override("o-1", "ann", at, at + ttl, tuple(sorted(toggles.items())))).encode()


def header(**toggles):
    return b"X-Fusebox-Override: %b\r\n" % token(**toggles)


def opened(cf=CF, **more):
    return stage(cf, CONTENT, **{"signing_key": KEY} | more)


def said(got):
    return tuple(got.metadata[name] for name in LABELS)


async def overridden(rig, fields):
    return await rig.recommend(4, fields=fields, aside=True)


async def refused(rig, fields, words):
    asked = len(rig.cf.requests), len(rig.content.requests)
    answer = await rig.ask(GET % (4, b"", fields))
    problem = orjson.loads(answer.body)
    assert (answer.status, problem["code"]) == (400, "override_invalid")
    assert words in problem["detail"]
    assert (len(rig.cf.requests), len(rig.content.requests)) == asked


BOTH = ("none", True, "hybrid_default", 0.6, "A")


@pytest.mark.parametrize(
    ("toggles", "over", "labels", "calls"),
    [
        ({}, {}, BOTH, (1, 1)),
        ({}, {"policy_mode": "content_only"}, ("none", True, "content_only", 0.0, "A"), (0, 1)),
        ({"policy_mode": "content_only"}, {"policy_mode": None}, BOTH, (1, 1)),
        ({"disable_cf": True}, {"disable_cf": False}, BOTH, (1, 1)),
        ({}, {"alpha_override": 0.25}, ("none", True, "hybrid_default", 0.25, "A"), (1, 1)),
        ({}, {"candidate_fallback_level": "B"}, ("none", True, "content_only", 0.0, "B"), (0, 1)),
        ({}, {"candidate_fallback_level": "D"}, ("none", True, "popularity", 0.0, "D"), (0, 0)),
        ({"exposure_percent": 0}, {"exposure_percent": 100}, BOTH, (1, 1)),
        ({}, {"exposure_percent": 0}, ("control", False, "control", 0.0, "D"), (0, 0)),
    ],
)
async def test_toggles_hold_for_this_request_and_no_other(toggles, over, labels, calls):
    async with opened(toggles=Toggles(version=3, **toggles)) as rig:
        before = await rig.recommend(4)
        asked = len(rig.cf.requests), len(rig.content.requests)
        got = await overridden(rig, header(**over))
        assert said(got) == labels
        assert (len(rig.cf.requests) - asked[0], len(rig.content.requests) - asked[1]) == calls
        after = await rig.recommend(4)
        assert (said(after), after.ids) == (said(before), before.ids)


async def test_nothing_is_counted_but_apart_and_no_cache_may_keep_it():
    async with opened() as rig:
        answer = await rig.ask(GET % (4, b"", header(policy_mode="content_only")))
        assert answer.get("cache-control") == b"no-store"
        assert rig.slots == (0, 0)
        assert rig.counters.levels == {}
        assert rig.outcomes("content") == {}
        assert rig.failures("content") == (0, 0)
        assert not any(sum(cell.status) for cell in rig.counters.routes.values())
        aside = rig.counters.aside("override")
        assert aside.cell("films", "none").status[2] == 1
        assert (aside.slots_asked, aside.levels) == (4, {"A": 1})


async def test_the_access_log_names_it(caplog):
    caplog.set_level(logging.INFO, "fusebox.access")
    async with opened(access_log_sample=1.0) as rig:
        await overridden(rig, header(policy_mode="content_only"))
        await rig.recommend(4)
    lines = [record for record in caplog.records if record.name == "fusebox.access"]
    assert [getattr(it, "override", None) for it in lines] == ["o-1", None]


async def test_scope_rule_and_arm_hold_as_for_all():
    """What is not overridden is decided as without it."""
    toggles = Toggles(
        region_scope=("eu",),
        disable_cf=True,
        rules=(Rule(Scope(cohort=("heavy",)), {"alpha_override": 0.1}),),
    )
    async with opened(toggles=toggles, experiment=Experiment(name="hybrid_v1")) as rig:
        fields = header(cache_mode="prewarm")
        for region, cohort in ((b"eu", b"heavy"), (b"us", b"heavy"), (b"us", b"light"), (b"eu", b"")):
            segments = b"X-Region: %b\r\nX-Cohort: %b\r\n" % (region, cohort)
            plain = await rig.recommend(4, fields=segments)
            got = await overridden(rig, segments + fields)
            assert said(got) == said(plain)


class TestRefusals:
    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (b"", "not base64url"),
            (b"nonsense!", "not base64url"),
            ("ünïcode".encode(), "not base64url"),
            (b"bm9uc2Vuc2U", "signature"),
            (b"A" * 8000, "longer than"),
            (token(key=b"x" * 32), "signature"),
            (token()[:-4], ""),
            (token(at=1_000_000), "has expired"),
            (token(at=10**11), "from now"),
            (token(kill_switch=False), "kill_switch is for everybody"),
            (token(policy_mode="best"), "policy_mode: should be one of"),
            (Kind(b"cursor", version=1, most=9999).sign(KEY, b"{}").encode(), "signature"),
            (token() + b"\r\nX-Fusebox-Override: " + token(), "once only"),
            (token() + b"\r\nx-fusebox-OVERRIDE: " + token(), "once only"),
            (token() + b", " + token(), "once only"),
        ],
    )
    async def test_what_does_not_count_is_400_and_asks_nobody(self, value, words):
        async with opened() as rig:
            await refused(rig, b"X-Fusebox-Override: " + value + b"\r\n", words)
            assert rig.counters.refusals == {"override_invalid": 1}
            assert (await rig.recommend(4)).level == "A"

    async def test_what_contradicts_the_toggles_in_force_is_named(self):
        async with opened(toggles=Toggles(disable_cf=True)) as rig:
            await refused(rig, header(policy_mode="collab_only"), "policy_mode collab_only asks cf alone")
            await refused(rig, header(disable_content=True), "candidate_fallback_level should be D")
            got = await overridden(rig, header(policy_mode="collab_only", disable_cf=False))
            assert got.sources[0] == "cf"

    async def test_a_rule_counts_for_what_is_in_force(self):
        rules = (Rule(Scope(region=("eu",)), {"disable_cf": True}),)
        async with opened(toggles=Toggles(rules=rules)) as rig:
            fields = header(policy_mode="collab_only")
            await refused(rig, fields + b"X-Region: eu\r\n", "policy_mode")
            assert (await overridden(rig, fields + b"X-Region: us\r\n")).sources[0] == "cf"

    async def test_settings_say_what_may_be_overridden(self):
        allowed = Overrides(toggles=("alpha_override",), alpha_max=0.5)
        async with opened(overrides=allowed) as rig:
            await refused(rig, header(disable_cf=True), "disable_cf may not be overridden here")
            assert (await overridden(rig, header(alpha_override=1.0))).metadata["alpha"] == 0.5

    @pytest.mark.parametrize(
        ("more", "words"),
        [({"overrides": Overrides(enabled=False)}, "switched off"), ({"signing_key": b""}, "no signing key")],
    )
    async def test_where_there_are_none_traffic_goes_on(self, more, words):
        async with opened(**more) as rig:
            await refused(rig, header(), words)
            assert (await rig.recommend(4)).level == "A"

    async def test_a_new_key_or_stricter_settings_hold_from_the_next_request(self):
        async with opened() as rig:
            fields = header(alpha_override=0.3)
            assert (await overridden(rig, fields)).metadata["alpha"] == 0.3
            policy = rig.plane.policy
            rig.plane.apply(replace(policy, overrides=Overrides(alpha_max=0.2)))
            assert (await overridden(rig, fields)).metadata["alpha"] == 0.2
            rig.plane.apply(replace(policy, signing_key=b"n" * 32))
            await refused(rig, fields, "signature")


class TestTheKill:
    @pytest.mark.parametrize("fields", [b"", header(), header(policy_mode="content_only"),
                                        b"X-Fusebox-Override: forged\r\n"])  # fmt: skip
    async def test_no_header_gets_past_it(self, fields):
        """With a valid header or not (facts 2.9): popularity, and nobody is asked."""
        async with opened(toggles=Toggles(kill_switch=True)) as rig:
            got = await rig.recommend(4, fields=fields)
            assert said(got)[2:] == ("kill_switch", 0.0, "D")
            assert got.ids == [film.id for film in FILMS[:4]]
            assert rig.cf.wires == rig.content.wires == []

    async def test_none_kills(self):
        async with opened() as rig:
            await refused(rig, header(kill_switch=True), "is for everybody")
            assert (await rig.recommend(4)).level == "A"


class TestSpellings:
    """Stripped in every spelling; one that is not the name is not read (facts, headers)."""

    @pytest.mark.parametrize("name", [b"X_Fusebox_Override", b"X-Fusebox_Override", b"x_fusebox-override"])
    async def test_an_alias_is_not_read(self, name):
        async with opened() as rig:
            fields = b"%b: %b\r\n" % (name, token(policy_mode="content_only"))
            assert said(await rig.recommend(4, fields=fields))[2] == "hybrid_default"
            mixed = fields + header(policy_mode="collab_only")
            assert said(await overridden(rig, mixed))[2] == "collab_only"

    @pytest.mark.parametrize("name", [b"x-fusebox-override", b"X-FUSEBOX-OVERRIDE"])
    async def test_case_makes_no_difference(self, name):
        async with opened() as rig:
            fields = b"%b: %b\r\n" % (name, token(policy_mode="content_only"))
            assert said(await overridden(rig, fields))[2] == "content_only"

    async def test_sources_never_see_it(self):
        async with opened() as rig:
            await overridden(rig, header() + b"X-Fusebox-Explain: 1\r\nX_Fusebox_Override: x\r\n")
            for request in rig.cf.requests + rig.content.requests:
                assert not [name for name, _ in request.fields if "fusebox" in name]

    @pytest.mark.parametrize(
        "fields",
        [
            header(),
            header() + header(),
            b"X-Fusebox-Override: forged\r\n",
            b"x_fusebox_override: a\r\nX-Fusebox_Override: b\r\nX-FUSEBOX-explain: 1\r\nX-Fusebox: kept\r\n",
            b"Connection: x-fusebox-override\r\n" + header(),
        ],
    )
    async def test_on_other_routes_it_is_taken_off_and_ignored(self, fields):
        route = Route(name="films", path="/", upstream="cf")
        async with stage(answering(reply()), CONTENT, signing_key=KEY) as rig:
            rig.plane.apply(replace(rig.plane.policy, routes=(route,)))
            head = b"POST /pay HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            trailers = b"X-Fusebox-Override: t\r\nx_fusebox_override: t\r\nX-Kept: t\r\n"
            answer = await rig.ask(head + fields + b"\r\n3\r\nabc\r\n0\r\n" + trailers + b"\r\n")
            assert answer.status == 200
            (got,) = rig.cf.requests
            names = {name for name, _ in (*got.fields, *got.trailers)}
            assert "x-kept" in names
            assert not {it for it in names if it.replace("_", "-").startswith("x-fusebox-")}


async def test_any_number_of_overrides_takes_bounded_memory():
    async with opened() as rig:
        wire = await rig.client()
        for number in range(MAX_LAID + 40):
            wire.send(GET % (2, b"", header(alpha_override=number / 1000)))
            assert (await wire.response()).status == 200
        choices = rig.plane._bound["films"].choices
        assert len(choices._laid) <= MAX_LAID
        assert len(choices._deciding._answers) <= 2
