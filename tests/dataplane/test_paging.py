"""`cursor` on the wire: nothing twice, one serving mode, safety first."""

from dataclasses import replace

import orjson
import pytest
from harness import answering, reply
from recommending import FILMS, film, hanging, many, offering, stage

from proxy.clock import monotonic, wall
from proxy.core.experiment import Experiment
from proxy.core.override import Override, sign
from proxy.core.paging import LIFE_S
from proxy.core.policy import Limits, Route, Sources, Toggles
from proxy.core.rollback.signals import REQUESTS

KEY = b"k" * 32
CF = offering(*many("cf", 20))
CONTENT = offering(*many("co", 20))
CONTROL = offering(*many("ctl", 20))
LABELS = ("arm", "exposed", "policy", "alpha", "level")


def opened(cf=CF, content=CONTENT, **more):
    return stage(cf, content, **{"signing_key": KEY} | more)


class Page:
    def __init__(self, answer):
        assert answer.status == 200, answer.body
        document = orjson.loads(answer.body)
        self.answer = answer
        self.metadata = document["metadata"]
        self.ids = [item["id"] for item in document["items"]]
        self.sources = {item["source"] for item in document["items"]}
        self.next = self.metadata["next"]
        assert [item["rank"] for item in document["items"]] == list(range(1, len(self.ids) + 1))

    @property
    def mode(self):
        return tuple(self.metadata[name] for name in LABELS)


async def ask(rig, cursor="", *, k=4, user=b"7", more=b"", fields=b""):
    query = b"/recommendations?user_id=%b&k=%d&cursor=%b%b" % (user, k, (cursor or "").encode(), more)
    return await rig.ask(b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (query, fields))


async def page(rig, cursor="", **how):
    return Page(await ask(rig, cursor, **how))


async def refused(rig, words, cursor, **how):
    answer = await ask(rig, cursor, **how)
    problem = orjson.loads(answer.body)
    assert (answer.status, problem["code"]) == (400, "bad_request")
    assert words in problem["detail"]


def change(rig, **toggles):
    rig.plane.apply(replace(rig.plane.policy, toggles=replace(rig.plane.policy.toggles, **toggles)))


async def test_pages_follow_each_other_until_nothing_is_left():
    async with opened() as rig:
        seen, cursor, sizes = [], "", [5, 7, 3] + [20] * 4
        for k in sizes:
            got = await page(rig, cursor, k=k)
            seen += got.ids
            cursor = got.next
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == 70  # 20 of each source, 30 popular ones
        assert len(got.ids) < k
        asked = [request.target for request in rig.cf.requests]
        assert asked[:3] == [b"/candidates?user_id=7&k=%d" % k for k in (5, 12, 15)]
        assert not [target for target in asked if b"cursor" in target]


async def test_without_a_cursor_nothing_is_different():
    async with opened() as rig:
        got = await rig.recommend(4)
        assert "next" not in got.metadata
        assert got.ids == (await page(rig)).ids


async def test_only_first_pages_are_judged():
    """Later ones would say how far users look."""
    async with opened() as rig:
        first = await page(rig)
        assert rig.slots == (4, 4)
        await page(rig, first.next, k=20)
        assert rig.slots == (4, 4)
        assert rig.counters.cell("films", "none").status[2] == 2
        counted = {key.side: cell[REQUESTS] for key, cell in rig.plane.books.take(monotonic()).cells.items()}
        assert counted == {"exposed": 1, "decided": 1}


class TestTheMode:
    """It stays as it was on the first page."""

    @pytest.mark.parametrize(
        "toggles",
        [{"exposure_percent": 0}, {"alpha_override": 0.1}, {"policy_mode": "collab_only"},
         {"policy_mode": "content_only"}, {"region_scope": ("mars",)}],
    )  # fmt: skip
    async def test_whatever_is_set_meanwhile(self, toggles):
        async with opened(control=CONTROL, experiment=Experiment(name="hybrid_v1")) as rig:
            for user in (b"1", b"2", b"3", b"4"):  # in several arms
                first = await page(rig, user=user)
                change(rig, **toggles)
                second = await page(rig, first.next, user=user)
                third = await page(rig, second.next, user=user, k=9)
                assert second.mode == third.mode == first.mode
                assert not {*first.ids} & {*second.ids}
                change(rig, **{name: getattr(Toggles(), name) for name in toggles})

    async def test_who_began_as_control_stays_there(self):
        async with opened(control=CONTROL, toggles=Toggles(exposure_percent=0)) as rig:
            first = await page(rig)
            change(rig, exposure_percent=100)
            second = await page(rig, first.next)
            assert second.mode == first.mode == ("control", False, "control", 0.0, "A")
            assert second.sources == {"control"}

    async def test_another_experiment_changes_nothing_for_it(self):
        async with opened(experiment=Experiment(name="hybrid_v1")) as rig:
            first = await page(rig)
            rig.plane.apply(replace(rig.plane.policy, experiment=Experiment(name="next")))
            second = await page(rig, first.next)
            assert second.mode == first.mode
            assert first.mode[0] != "none"

    async def test_it_counts_under_its_arm(self):
        async with opened(experiment=Experiment(name="hybrid_v1")) as rig:
            first = await page(rig)
            await page(rig, first.next)
            assert rig.counters.cell("films", first.mode[0]).status[2] == 2


class TestSafety:
    """Safety wins over the mode."""

    @pytest.mark.parametrize(
        ("toggles", "mode", "sources"),
        [
            ({"disable_cf": True}, ("none", True, "content_only", 0.0, "A"), {"content"}),
            ({"disable_content": True}, ("none", True, "collab_only", 1.0, "A"), {"cf"}),
            ({"candidate_fallback_level": "B"}, ("none", True, "content_only", 0.0, "B"), {"content"}),
            ({"candidate_fallback_level": "D"}, ("none", True, "popularity", 0.0, "D"), {"popularity"}),
            ({"disable_cf": True, "disable_content": True}, ("none", True, "popularity", 0.0, "D"),
             {"popularity"}),
        ],
    )  # fmt: skip
    async def test_what_became_stricter_holds(self, toggles, mode, sources):
        async with opened() as rig:
            first = await page(rig)
            change(rig, **toggles)
            second = await page(rig, first.next)
            assert (second.mode, second.sources) == (mode, sources)
            change(rig, **{name: getattr(Toggles(), name) for name in toggles})
            assert (await page(rig, second.next)).mode == first.mode

    async def test_a_kill_is_for_further_pages_too_and_they_repeat_nothing(self):
        async with opened() as rig:
            first = await page(rig, k=6)
            change(rig, kill_switch=True)
            asked = len(rig.cf.requests)
            second = await page(rig, first.next, k=6)
            third = await page(rig, second.next, k=6)
            assert second.mode == ("none", True, "kill_switch", 0.0, "D")
            assert len(rig.cf.requests) == asked
            assert second.ids + third.ids == [film.id for film in FILMS[:12]]
            change(rig, kill_switch=False)
            fourth = await page(rig, third.next, k=6)
            assert fourth.mode == first.mode
            assert len({*first.ids, *second.ids, *third.ids, *fourth.ids}) == 24

    async def test_who_began_killed_stays_with_popularity(self):
        async with opened(toggles=Toggles(kill_switch=True)) as rig:
            first = await page(rig)
            change(rig, kill_switch=False)
            second = await page(rig, first.next)
            assert first.ids + second.ids == [film.id for film in FILMS[:8]]
            assert second.mode == ("none", True, "popularity", 0.0, "D")
            assert rig.cf.wires == []

    async def test_a_source_that_is_gone_is_not_asked(self):
        async with opened() as rig:
            first = await page(rig)
            policy = rig.plane.policy
            rig.plane.apply(replace(policy, routes=(replace(policy.routes[0], sources=Sources(cf="cf")),)))
            second = await page(rig, first.next)
            assert second.sources == {"cf"}
            assert not {*first.ids} & {*second.ids}


@pytest.mark.parametrize("script", [answering(reply(b"{}", status=b"500 Oops")), hanging])
async def test_failures_between_pages_repeat_nothing(script):
    """Popularity fills a page; what it showed does not come again when the source is back."""
    both = [film(it.id, 1 - n / 30) for n, it in enumerate(FILMS)]  # cf offers what is popular
    sources = {"content": {"timeout_ms": 50}}
    async with opened(offering(*both), script, sources=sources) as rig:
        shown = []
        cursor = ""
        for broken in (False, True, False, True, False):
            if broken:
                rig.plane.breakers["cf"].open(0.0, "test")
            else:
                rig.plane.breakers["cf"].close(0.0, "test")
            got = await page(rig, cursor, k=5)
            assert got.sources == ({"popularity"} if broken else {"cf"})
            shown += got.ids
            cursor = got.next
        assert len(shown) == len(set(shown)) == 25


class TestRefusals:
    async def test_another_user_filter_or_path(self):
        async with opened() as rig:
            first = await page(rig, more=b"&genres=drama")
            await refused(
                rig, "cursor was begun with another user", first.next, user=b"8", more=b"&genres=drama"
            )
            await refused(rig, "cursor was begun with another set of filters", first.next)
            await refused(
                rig, "another user and set of filters", first.next, user=b"8", more=b"&genres=comedy"
            )
            policy = rig.plane.policy
            other = replace(policy.routes[0], name="shows")
            rig.plane.apply(replace(policy, routes=(other,)))
            await refused(rig, "another path", first.next, more=b"&genres=drama")

    @pytest.mark.parametrize("cursor", ["x", "A" * 7_000, "%00", "%FF%FE", "%C3%BC", "A%3D%3D"])
    async def test_what_was_not_signed_here(self, cursor):
        async with opened() as rig:
            await refused(rig, "cursor ", cursor)
            assert rig.cf.requests == []
            change(rig, kill_switch=True)
            await refused(rig, "cursor ", cursor)

    async def test_an_override_is_no_cursor_and_twice_is_none(self):
        async with opened() as rig:
            at = int(wall())
            await refused(rig, "signature", sign(KEY, Override("o", "ann", at, at + 60, ())))
            await refused(rig, "cursor may be given once only", "", more=b"&cursor=")

    async def test_it_expires(self, monkeypatch):
        async with opened() as rig:
            first = await page(rig)
            monkeypatch.setattr("proxy.dataplane.paging.wall", lambda: wall() + LIFE_S + 1)
            await refused(rig, "cursor has expired", first.next)

    async def test_another_key(self):
        async with opened() as rig:
            first = await page(rig)
            rig.plane.apply(replace(rig.plane.policy, signing_key=b"n" * 32))
            await refused(rig, "signature", first.next)

    async def test_without_a_key_the_first_page_is_all(self):
        async with opened(signing_key=b"") as rig:
            assert (await page(rig)).next is None
            await refused(rig, "no signing key", "abc")


async def test_a_cursor_that_would_not_fit_into_a_target_is_not_given():
    async with opened(limits=Limits(target_bytes=300)) as rig:
        got = await page(rig, k=4)
        while got.next is not None:
            got = await page(rig, got.next, k=4)
        assert len(got.ids) == 4


async def test_names_may_be_escaped_and_nothing_of_it_reaches_a_source():
    async with opened() as rig:
        first = await page(rig)
        query = b"/recommendations?user_id=7&k=4&%%63ursor=%b" % first.next.encode()
        got = Page(await rig.ask(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % query))
        assert not {*first.ids} & {*got.ids}
        assert all(b"ursor" not in request.target for request in rig.cf.requests)


async def test_pages_of_who_has_no_user_stay_in_their_mode():
    async with opened(toggles=Toggles(exposure_percent=50)) as rig:
        for _ in range(6):
            cursor, modes, seen = "", set(), []
            for _ in range(4):
                got = await page(rig, cursor, user=b"")
                modes.add(got.mode)
                seen += got.ids
                cursor = got.next
            assert (len(modes), len(seen)) == (1, len(set(seen)))


class TestOverridden:
    def header(self, **toggles):
        at = int(wall())
        token = sign(KEY, Override("o", "ann", at, at + 600, tuple(sorted(toggles.items()))))
        return b"X-Fusebox-Override: %b\r\n" % token.encode()

    async def test_pages_need_the_override_they_began_with(self):
        async with opened() as rig:
            first = await page(rig, fields=self.header(policy_mode="content_only"))
            second = await page(rig, first.next, fields=self.header(policy_mode="content_only"))
            assert second.mode == first.mode == ("none", True, "content_only", 0.0, "A")
            assert second.answer.get("cache-control") == b"no-store"
            await refused(rig, "another X-Fusebox-Override", first.next)
            await refused(rig, "another X-Fusebox-Override", first.next, fields=self.header())
            plain = await page(rig)
            await refused(rig, "another X-Fusebox-Override", plain.next, fields=self.header())
            assert rig.counters.aside("override").cell("films", "none").status[2] == 2

    async def test_while_killed_it_makes_no_difference(self):
        async with opened() as rig:
            first = await page(rig, fields=self.header(policy_mode="content_only"))
            change(rig, kill_switch=True)
            for fields in (b"", self.header(), self.header(policy_mode="content_only")):
                assert (await page(rig, first.next, fields=fields)).mode[2] == "kill_switch"


async def test_a_fault_of_ours_repeats_nothing_either(monkeypatch):
    async with opened(offering(*[film(it.id, 1 - n / 30) for n, it in enumerate(FILMS)])) as rig:
        first = await page(rig)

        def broken(*_):
            raise RuntimeError("ours")

        with monkeypatch.context() as patched:
            patched.setattr("proxy.dataplane.recommend.first_round", broken)
            second = await page(rig, first.next)
        assert second.sources == {"popularity"}
        third = await page(rig, second.next)
        assert len({*first.ids, *second.ids, *third.ids}) == 12
        rig.complaints.clear()


async def test_forward_routes_keep_their_own_cursors():
    async with stage(answering(reply()), CONTENT, signing_key=KEY) as rig:
        rig.plane.apply(replace(rig.plane.policy, routes=(Route(name="x", path="/", upstream="cf"),)))
        await rig.ask(b"GET /list?cursor=theirs HTTP/1.1\r\nHost: x\r\n\r\n")
        assert rig.cf.requests[0].target == b"/list?cursor=theirs"
