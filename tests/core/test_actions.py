"""Which requests are actions, and what is recorded of them."""

import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.action_paths import Template
from proxy.core.actions import MAX_VALUE_BYTES, ActionRules, Rule, safe
from proxy.core.audit import Outcome, parse
from proxy.core.audit_settings import Action
from proxy.core.policy import Identity, Route

ROUTE = Route(name="account", path="/account/", upstream="up")


def rules(*actions, route=ROUTE):
    return ActionRules(actions, Identity()).of(route)


def matched(path, *, template="/account/{target}/plan", method=b"POST", **more):
    found = rules(Action(action="plan", path=template, **more)).match(method, path)
    return dict(zip(re.findall(rb"{(\w+)}", template.encode()), found[0][1], strict=True)) if found else None


# -- which requests


@pytest.mark.parametrize(
    ("template", "path", "captured"),
    [
        ("/account/{target}/plan", b"/account/a-1/plan", {b"target": b"a-1"}),
        ("/account/{target}/plan", b"/account/a-1/plan/", {b"target": b"a-1"}),
        ("/account/{target}/plan", b"/account/a-1", None),
        ("/account/{target}/plan", b"/account/a-1/plan/x", None),
        ("/account/{target}/plan", b"/account/a-1/PLAN", None),
        ("/account/{a}/{b}", b"/account/x/y", {b"a": b"x", b"b": b"y"}),
        ("/account/*", b"/account", {}),
        ("/account/*", b"/account/x/y/z", {}),
        ("/account/*", b"/accounts/x", None),
        ("/*", b"/account/", {}),
        ("/*", b"/", {}),
        ("/account", b"/account/", {}),
    ],
)
def test_templates(template, path, captured):
    assert matched(path, template=template) == captured


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (b"/account/a%2D1/plan", b"a-1"),
        (b"/account/a-1/pl%61n", b"a-1"),
        (b"/account/a%40b/plan", b"a@b"),
        (b"/account//a-1/plan", b"a-1"),
        (b"/account/./a-1/x/../plan", b"a-1"),
        (b"/account/a-1/plan;v=1", b"a-1"),
        (b"/account/a-1;v=1/plan", b"a-1"),
        (b"/account\\a-1\\plan", b"a-1"),
        (b"/account/a-1%2Fplan", b"a-1"),
        (b"/account/a%2Fb/plan", b"a/b"),  # one segment to an upstream that decodes last
        (b"/account/%C3%A9/plan", "é".encode()),
        (b"/account/a%252F1/plan", b"a%2F1"),
    ],
)
def test_no_way_to_write_a_path_keeps_an_action_out_of_the_log(path, target):
    assert matched(path) == {b"target": target}


def test_an_escaped_literal_is_the_literal():
    assert matched(b"/account/a%40b", template="/account/a@b") == {}


def test_methods():
    assert matched(b"/account/1/plan", methods=("PUT", "POST")) is not None
    assert matched(b"/account/1/plan", methods=("PUT",)) is None


def test_a_route_without_rules_has_none():
    action = Action(action="a", path="/account/a", route="account")
    other = Route(name="other", path="/account/", upstream="up")
    assert rules(action) is not None
    assert rules(action, route=other) is None
    assert rules(Action(action="a", path="/elsewhere/*")) is None, "it would never match"
    assert (
        rules(Action(action="a", path="/account/a"), route=Route(name="r", path="/", kind="recommend"))
        is None
    )
    assert rules() is None


def test_rules_are_tried_in_their_order():
    found = rules(
        Action(action="first", path="/account/x"),
        Action(action="second", path="/account/{any}", methods=("GET",)),
        Action(action="third", path="/account/x", methods=("PUT",)),
        Action(action="fourth", path="/*"),
    ).match(b"GET", b"/account/x")
    assert [rule.action for rule, _ in found] == ["user.first", "user.second", "user.fourth"]


@pytest.mark.parametrize(
    ("status", "outcome", "taken"),
    [
        (204, Outcome.DONE, True),
        (401, Outcome.REFUSED, True),
        (403, Outcome.REFUSED, False),
        (302, Outcome.DONE, False),
        (504, Outcome.UNKNOWN, True),
    ],
)
def test_the_status_says_whether_an_answer_is_recorded(status, outcome, taken):
    rule = Rule(Action(action="a", path="/x", status=("2xx", "401")), Identity())
    assert rule.takes(status, outcome) is taken
    assert Rule(Action(action="a", path="/x"), Identity()).takes(status, outcome)


@pytest.mark.parametrize("template", ["", "x", "/a/{b", "/a/b}", "/{a}{b}", "/a//b", "/*/a", "/a/..", "/a b"])
def test_what_is_no_template(template):
    with pytest.raises(ValueError, match=r"should|twice"):
        Template(template)


@given(st.lists(st.sampled_from(["a", "b", "{x}", "{y}"]), unique=True, max_size=4), st.booleans())
def test_a_template_reaches_every_route_above_a_path_that_it_matches(parts, rest):
    template = Template("/" + "/".join([*parts, *(["*"] if rest else [])]))
    path = [part.strip("{}") for part in parts] + (["more"] if rest else [])
    for end in range(len(path) + 1):
        assert template.reaches("/" + "/".join(path[:end]))
    assert not template.reaches("/q/q/q/q/q/q") or rest


segments = st.sampled_from([b"a", b"b", b"..", b".", b"", b"%61", b"a;b", b"x.y", b"a%2Fb", b"@", b"*", b"%"])
templates = st.lists(st.sampled_from(["a", "b", "@", "x.y", "{x}", "{y}"]), unique=True, max_size=3)


@given(
    st.lists(st.tuples(templates, st.booleans()), min_size=1, max_size=4),
    st.lists(segments, max_size=4),
    st.booleans(),
)
def test_plain_paths_are_matched_as_all_are(made, asked, slash):
    """By one pattern or segment by segment: the same rules, with the same values."""
    paths = ["/" + "/".join([*parts, *(["*"] if rest else [])]) for parts, rest in made]
    route = Route(name="r", path="/", upstream="up")
    listed = rules(*(Action(action=f"a{at}", path=path) for at, path in enumerate(paths)), route=route)
    path = b"/" + b"/".join(asked) + (b"/" if slash else b"")
    found, all_ways = listed.match(b"GET", path), listed._any.__self__.match_odd(path)
    assert [(rule.action, list(held)) for rule, held in found] == [
        (rule.action, list(held)) for rule, held in all_ways
    ]


# -- what is recorded


SEEN = {
    "headers": {b"x-user-id": b"u-1", b"cookie": b"s=1; who=u-2", b"x-reason": b"moved"},
    "query": b"plan=gold%20plus&empty=",
    "answer": {b"x-old-plan": b"silver"},
}


def made(action, *, seen=SEEN, code="", captured=None, **more):
    facts = {
        "outcome": "done",
        "status": 200,
        "at": "2026-01-01T00:00:00.000000Z",
        "address": "192.0.2.1",
        "request_id": "r",
        "instance": "i",
    } | more
    rule = Rule(action, Identity())
    said = orjson.dumps(facts)[1:-1].decode()
    held = [(captured or {})[name.encode()] for name in rule.template.names]
    data = rule.written(said, (seen["headers"], seen["query"], held, seen["answer"]), code)
    assert len(data) <= rule.size
    return parse(data)


def test_every_kind_of_source():
    found = made(
        Action(
            action="plan.change",
            path="/account/{id}/plan",
            actor=("cookie:who",),
            subject=("query:none", "path:id"),
            target=("query:plan",),
            before=("answer:X-Old-Plan",),
            after=("query:plan", "query:empty", "header:X-User-Id"),
            reason=("header:x-reason",),
            sample=0.5,
        ),
        captured={b"id": b"a-7"},
    )
    assert found.action == "user.plan.change"
    assert (found.actor, found.subject, found.target) == ("u-2", "a-7", "gold plus")
    assert found.before == {"x-old-plan": "silver"}
    assert found.after == {"plan": "gold plus", "x-user-id": "u-1"}
    assert found.reason == "moved"
    assert (found.sample, found.status, found.address, found.request_id, found.instance) == (
        0.5,
        200,
        "192.0.2.1",
        "r",
        "i",
    )
    assert found.private == ("actor", "subject", "target", "before", "after", "reason", "address")


def test_the_actor_is_the_user_and_the_subject_the_actor_unless_told_otherwise():
    found = made(Action(action="a", path="/x"))
    assert (found.actor, found.subject) == ("u-1", "u-1")
    other = made(Action(action="a", path="/x", subject=("query:none",)))
    assert (other.actor, other.subject) == ("u-1", ""), "a subject that was not there is nobody else"


def test_nothing_is_private_without_a_subject():
    found = made(Action(action="a", path="/x"), seen={"headers": {}, "query": b"", "answer": {}})
    assert (found.actor, found.subject, found.private) == ("", "", ())


def test_a_code_stands_before_the_reason_and_alone_is_no_secret():
    action = Action(action="a", path="/x", reason=("header:x-reason",))
    both = made(action, code="breaker_open")
    assert both.reason == "breaker_open: moved"
    assert "reason" in both.private
    alone = made(Action(action="a", path="/x"), code="breaker_open")
    assert alone.reason == "breaker_open"
    assert "reason" not in alone.private


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"plain", "plain"),
        ("é".encode(), "é"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"a\x00\x1b[31m\r\nb", "a\ufffd\ufffd[31m\ufffd\ufffdb"),
        (b"x" * 1000, "x" * MAX_VALUE_BYTES),
        ("é".encode() * 500, "é" * (MAX_VALUE_BYTES // 2)),
        (b"x" + "é".encode() * 500, "x" + "é" * (MAX_VALUE_BYTES // 2 - 1) + "\ufffd"),
    ],
)
def test_values_are_made_safe(value, text):
    assert safe(value) == text


SOURCES = ("header:a", "header:b", "query:q", "query:%", "cookie:c", "path:id", "answer:d")
sources = st.lists(st.sampled_from(SOURCES), max_size=3).map(tuple)
value = st.sampled_from(
    [b"", b"x", b"a value", b'"', b"\\", b"\xff", b"\x01", b"x" * 200, b"%b", "é".encode()]
)


@given(st.data())
def test_plain_values_are_written_as_all_are(data):
    """Filled into what was prepared, or one by one: the same entry, whatever is missing."""
    fields = ("actor", "subject", "target", "before", "after", "reason")
    action = Action(action="a", path="/x/{id}", **{name: data.draw(sources) for name in fields})
    rule = Rule(action, Identity())
    one, other = data.draw(value), data.draw(value)
    headers = {b"a": one, b"b": other, b"cookie": b"c=" + data.draw(value).replace(b";", b"")}
    seen = (
        headers,
        b"q=" + data.draw(value).replace(b"%", b"+"),
        [data.draw(value)],
        {b"d": data.draw(value)},
    )
    said = '"outcome":"done","at":"2026-01-01T00:00:00.000000Z"'
    written = rule.written(said, seen)
    assert len(written) <= rule.size
    found = parse(written)
    rule._form = []
    assert found == parse(rule.written(said, seen))


def test_most_entries_are_filled_in():
    """One text is missing: it is empty then, where it is left out of others. `parse` knows no difference."""
    action = Action(action="a", path="/x/{id}", target=("query:none",), after=("path:id",))
    rule = Rule(action, Identity())
    data = rule.written('"outcome":"done"', ({b"x-user-id": b"u-1"}, b"", [b"7"], {}))
    assert orjson.loads(data)["target"] == ""


@given(st.binary(max_size=600), st.binary(max_size=600), st.text(max_size=20))
def test_an_entry_is_never_larger_than_the_room_that_was_reserved(one, other, instance):
    """Whatever bytes the wire brings; and the spool's reader takes it for what it was."""
    action = Action(
        action="a" * 48,
        path="/x/{id}",
        actor=("header:a",),
        subject=("path:id",),
        target=("query:q",),
        before=("header:a", "answer:b"),
        after=("answer:c", "header:d"),
        reason=("header:d",),
    )
    seen = {
        "headers": {b"a": one, b"d": other},
        "query": b"q=" + other.replace(b"&", b"%"),
        "answer": {b"b": other, b"c": one},
    }
    made(
        action,
        seen=seen,
        captured={b"id": one},
        code="upstream_unreachable",
        address="2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff",
        request_id="r" * 128,
        instance=instance,
    )


def test_the_headers_it_needs_are_named():
    found = ActionRules(
        [
            Action(action="a", path="/x", reason=("header:X-Reason", "cookie:c"), before=("answer:X-Old",)),
            Action(action="b", path="/x", actor=("query:q",)),
        ],
        Identity(user=("header:x-who",)),
    )
    assert found.header_names == {b"x-reason", b"cookie", b"x-who"}
