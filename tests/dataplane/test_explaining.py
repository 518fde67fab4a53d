"""`X-Fusebox-Explain` on the wire: who is told, and that it fits what was served."""

import orjson
import pytest
from harness import answering, reply
from recommending import Recommended, hanging, many, offering, stage
from test_overrides import GET, header, opened

from proxy.core.breaker import BreakerSettings
from proxy.core.experiment import Experiment
from proxy.core.policy import Toggles
from proxy.core.toggles import Rule, Scope

KEY = b"k" * 32
WHY = b"X-Fusebox-Explain: 1\r\n"
CF = offering(*many("cf", 20))
CONTENT = offering(*many("co", 20))


async def explained(rig, fields=b"", k=4, **toggles):
    """The answer and its explanation."""
    answer = await rig.ask(GET % (k, b"", WHY + header(**toggles) + fields))
    return Recommended(answer, k, aside=True), orjson.loads(answer.get("x-fusebox-explanation"))


async def test_it_says_how_this_very_answer_came_about():
    rules = (Rule(Scope(region=("eu",)), {"alpha_override": 0.25}),)
    async with opened(toggles=Toggles(version=9, rules=rules)) as rig:
        got, said = await explained(rig, b"X-Region: eu\r\n")
        assert said["who"]["user"] == "7"
        assert said["who"]["bucket"] == got.metadata["bucket"]
        assert said["toggles_version"] == 9
        for name in ("policy", "alpha", "arm", "exposed"):
            assert said["decision"][name] == got.metadata[name]
        assert said["answer"]["items_by"] == {"content": 4}
        assert {"step": "scope", "said": "the document holds, rules[0] over it"} in said["steps"]
        assert [(it["kind"], it["outcome"], it["items"]) for it in said["sources"]] == [
            ("cf", "answered", 20),
            ("content", "answered", 20),
        ]


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        (answering(reply(b"{}", status=b"500 Oops")), "error"),
        (answering(reply(b"[]", b"Content-Type: application/json")), "invalid"),
        (answering(reply(b"{}", status=b"404 No")), "client_error"),
        (hanging, "timeout"),
    ],
)
async def test_a_source_that_fails_is_told(script, outcome):
    async with opened(script, sources={"cf": {"timeout_ms": 50}}) as rig:
        got, said = await explained(rig)
        assert set(got.sources) == {"content"}
        cf, content = said["sources"]
        assert (cf["kind"], cf["upstream"], cf["outcome"], cf["breaker"]) == ("cf", "cf", outcome, "closed")
        assert cf["milliseconds"] > 0
        assert content["outcome"] == "answered"
        assert said["answer"]["degraded"] is True


async def test_a_breaker_that_cuts_a_source_off_is_told():
    async with opened(sources={"cf": {"breaker": BreakerSettings(cooldown_s=60)}}) as rig:
        rig.plane.breakers["cf"].open(0.0, "test")
        _, said = await explained(rig)
        assert (said["sources"][0]["outcome"], said["sources"][0]["breaker"]) == ("breaker_open", "held open")


async def test_popularity_and_control_are_told_too():
    async with opened() as rig:
        _, said = await explained(rig, candidate_fallback_level="D")
        assert (said["sources"], said["answer"]["items_by"]) == ([], {"popularity": 4})
        assert said["decision"]["reason"] == "candidate_fallback_level"
        _, said = await explained(rig, exposure_percent=0)
        assert said["decision"]["policy"] == "control"


async def test_a_further_page_says_what_was_shown_before():
    async with opened(experiment=Experiment(name="hybrid_v1")) as rig:
        fields = WHY + header()
        first = await rig.ask(GET % (4, b"&cursor=", fields))
        cursor = orjson.loads(first.body)["metadata"]["next"].encode()
        second = await rig.ask(GET % (4, b"&cursor=" + cursor, fields))
        said = [orjson.loads(each.get("x-fusebox-explanation")) for each in (first, second)]
        assert [each["shown_before"] for each in said] == [0, 4]
        assert [each["decision"]["reason"] for each in said] == ["experiment", "cursor"]
        assert said[0]["decision"]["arm"] == said[1]["decision"]["arm"] != "none"


@pytest.mark.parametrize(
    "fields",
    [WHY, header(), header() + b"X-Fusebox-Explain: 0\r\n", header() + b"X_Fusebox_Explain: 1\r\n",
     header() + WHY + WHY, header() + b"X-Fusebox-Explain: yes\r\n"],
)  # fmt: skip
async def test_nobody_else_is_told_and_no_source_sees_it(fields):
    """Without an override that counts it is ignored."""
    async with opened() as rig:
        answer = await rig.ask(GET % (4, b"", fields))
        assert answer.status == 200
        assert answer.get("x-fusebox-explanation") is None
        for request in rig.cf.requests + rig.content.requests:
            assert not [name for name, _ in request.fields if "fusebox" in name]


async def test_an_upstream_cannot_say_it_in_our_name():
    """What a source answers has no say in our head."""
    script = answering(
        reply(b'{"items": []}', b"Content-Type: application/json", b"X-Fusebox-Explanation: {}")
    )
    async with opened(script) as rig:
        answer = await rig.ask(GET % (4, b"", b""))
        assert answer.get("x-fusebox-explanation") is None


async def test_while_killed_there_is_nothing_to_explain():
    async with opened(toggles=Toggles(kill_switch=True)) as rig:
        answer = await rig.ask(GET % (4, b"", WHY + header()))
        assert (answer.status, answer.get("x-fusebox-explanation")) == (200, None)


async def test_a_fault_of_ours_in_explaining_costs_the_explanation_alone(monkeypatch):
    def broken(*_):
        raise RuntimeError("a fault")

    monkeypatch.setattr("proxy.dataplane.recommend.explained", broken)
    async with opened() as rig:
        for toggles in ({}, {"candidate_fallback_level": "D"}):
            answer = await rig.ask(GET % (4, b"", WHY + header(**toggles)))
            assert len(Recommended(answer, 4, aside=True).items) == 4
            assert answer.get("x-fusebox-explanation") is None
        assert rig.quiet
        assert len(rig.complaints) == 2
        rig.complaints.clear()


async def test_whatever_calls_itself_a_user_is_ascii_there():
    async with stage(CF, CONTENT, signing_key=KEY) as rig:
        user = "\N{SNOWMAN}\u2028'\"".encode() * 8
        answer = await rig.ask(GET % (4, b"", WHY + header() + b"X-User-Id: " + user + b"\r\n"))
        line = answer.get("x-fusebox-explanation")
        assert line.isascii()
        assert orjson.loads(line)["who"]["user"].startswith("\N{SNOWMAN}")
