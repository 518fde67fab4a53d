"""`rollback` and `triggers` on the command line: what is asked, what an on-call reads."""

import orjson
import pytest

from proxy.control.rollback_shown import (
    CriticalStatus,
    MoveStatus,
    PatchStatus,
    RollbackStatus,
    TriggersStatus,
    VerdictStatus,
)
from proxy.core.rollback.layers import Patch
from proxy.core.rollback.verdicts import ALL, Critical, Segment, Verdict
from proxy.core.toggles import Scope

AT = "2026-01-02T03:04:05.000000Z"
PATCH = Patch("2", {"disable_cf": True}, Scope(region=("eu",)), 100)
MOVE = MoveStatus(
    at=AT,
    before="ROLLBACK_PENDING",
    to="ROLLED_BACK",
    event="confirmed",
    stage="2",
    by="fusebox",
    reason="error_p1: 12 % of 431 requests,\nallowed 0.1 %",
    causes=(),
    was="stage 1 for region=eu",
    now="stage 2 for region=eu",
    applied=True,
)


def standing(**changed):
    known = {
        "mode": "act",
        "state": "ROLLED_BACK",
        "since": AT,
        "for_s": 130.4,
        "stage": "2",
        "applied": True,
        "layers": (PatchStatus.of(PATCH),),
        "by": "fusebox",
        "reason": MOVE.reason,
        "began": AT,
        "cause": "error_p1: 9 % of 40 requests, allowed 0.1 %",
        "wrong": ("the breaker of cf is open: 5 failures in a row",),
        "next": "then users are let out again, 1 % first",
        "next_in_s": 170.0,
        "persisted": True,
        "learning": False,
        "moves": (MOVE,),
    }
    return orjson.loads(orjson.dumps(RollbackStatus(**known | changed)))


FORESEEN = {
    "state_before": "NORMAL",
    "state_after": "ROLLED_BACK",
    "layers_before": [],
    "layers_after": standing()["layers"],
    "kills": False,
    "span_s": 60.0,
    "requests": 100,
    "replayed": 100,
    "users": 40,
    "exposed_before": 40,
    "exposed_after": 40,
    "changed": dict.fromkeys(("policy", "arm", "level", "sources", "alpha", "exposed"), 0) | {"users": 30},
    "moves": [],
    "more_moves": 0,
    "upstreams": [],
    "cache_missed": None,
    "verdict": "fits",
    "says": [],
}
PREVIEW = ("POST", "/v1/rollback/preview")


@pytest.fixture
def order(run, admin):
    """Run an order; its result, and what was asked, each with its body."""

    def order(*words, foreseen=(200, FORESEEN), status=200, answer=None):
        admin.scripted[PREVIEW] = foreseen
        admin.status, admin.answer = status, standing() if answer is None else answer
        result = run("rollback", *words, "--admin", admin.url)
        return result, [(path, orjson.loads(body or b"null")) for _, path, _, body in admin.asked]

    return order


def test_status_says_why_what_is_wrong_what_lies_there_and_what_comes(run, admin):
    admin.answer = standing()
    result = run("rollback", "status", "--admin", admin.url)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[:7] == [
        "rollback ROLLED_BACK (stage 2) since 2026-01-02T03:04:05Z, 2 min",
        "why: error_p1: 12 % of 431 requests, allowed 0.1 % (by fusebox)",
        "began 2026-01-02T03:04:05Z: error_p1: 9 % of 40 requests, allowed 0.1 %",
        "wrong now: the breaker of cf is open: 5 failures in a row",
        "over the toggles: stage 2 for region=eu, 99 % of the users: disable_cf=true",
        "next in 2 min: then users are let out again, 1 % first",
        "",
    ]
    assert lines[8].split()[:4] == ["2026-01-02T03:04:05Z", "ROLLBACK_PENDING", "ROLLED_BACK", "fusebox"]


def test_in_normal_one_line_is_enough(run, admin):
    admin.answer = standing(
        state="NORMAL",
        stage="",
        layers=(),
        reason="",
        by="",
        began="",
        cause="",
        wrong=(),
        next_in_s=None,
        moves=(),
    )
    result = run("rollback", "status", "--admin", admin.url)
    assert result.output == "rollback NORMAL since 2026-01-02T03:04:05Z, 2 min\n"


def test_what_is_only_watched_is_said_to_be(run, admin):
    admin.answer = standing(mode="watch", applied=False)
    result = run("rollback", "status", "--admin", admin.url)
    assert "mode watch" in result.output
    assert "only watched: nothing of this is in force" in result.output
    assert "\nwould lie over the toggles: stage 2" in result.output


def test_an_order_shows_what_it_changes_and_then_where_it_stands(order):
    result, asked = order("start", "--stage", "3", "--region", "eu", "--region", "us", "--reason", "cf lies")
    wanted = {"stage": "3", "region": ["eu", "us"]}
    assert asked == [
        ("/v1/rollback/preview", wanted | {"action": "start"}),
        ("/v1/rollback/start", wanted | {"reason": "cf lies"}),
    ]
    assert result.exit_code == 0
    assert "NORMAL → ROLLED_BACK" in result.output
    assert "30 of 40 users would get something else" in result.output
    assert "nothing was changed" not in result.output
    assert "rollback ROLLED_BACK (stage 2)" in result.output


def test_a_dry_run_only_shows_and_needs_no_reason(order):
    result, asked = order("override", "degraded", "--dry-run")
    assert asked == [("/v1/rollback/preview", {"baseline": "degraded", "action": "override"})]
    assert result.exit_code == 0
    assert result.output.endswith("verdict: fits; nothing was changed\n")


def test_an_order_does_not_wait_for_a_preview_that_cannot_be_had(order):
    problem = {"code": "rate_limited", "title": "Too many requests", "detail": "", "status": 429}
    result, asked = order("start", "--reason", "x", foreseen=(429, problem))
    assert [path for path, _ in asked] == ["/v1/rollback/preview", "/v1/rollback/start"]
    assert result.exit_code == 0
    assert "no preview could be had" in result.stderr


def test_what_is_refused_is_exit_1_and_says_why(order):
    problem = {
        "code": "illegal_move",
        "title": "No such move",
        "detail": "released leads nowhere",
        "status": 409,
    }
    result, _ = order("release", "--reason", "x", foreseen=(409, problem), status=409, answer=problem)
    assert result.exit_code == 1
    assert "released leads nowhere" in result.stderr
    result, _ = order("start", "--reason", "x", status=403, answer=problem)
    assert (result.exit_code, result.stdout) == (1, "")
    result, asked = order("release", "--dry-run", foreseen=(409, problem))
    assert result.exit_code == 1
    assert asked[-1][0] == "/v1/rollback/preview"


def test_an_order_needs_a_reason(order):
    result, asked = order("start")
    assert (result.exit_code, asked) == (2, [])
    assert 'say why:  fusebox rollback start … --reason "…"' in result.stderr


def test_what_could_not_be_written_down_is_exit_1_although_it_is_in_force(order):
    result, _ = order("start", "--reason", "x", answer=standing(persisted=False))
    assert result.exit_code == 1
    assert "it is in force, but could not be written down" in result.stderr


def verdict(**changed):
    known = {
        "trigger": "error_p1",
        "metric": "error",
        "priority": "P1",
        "segment": ALL,
        "answer": "ok",
        "threshold": 0.001,
        "observed": 0.0,
        "bound": 0.0005,
        "n": 4_000,
        "needed": None,
        "since": None,
    }
    return Verdict(**known | changed)


def test_triggers_are_a_table_of_what_each_sees(run, admin):
    seen = verdict(answer="breach", observed=0.123, by="detector", segment=Segment("region", "eu"))
    admin.answer = orjson.loads(
        orjson.dumps(
            TriggersStatus(
                mode="act",
                state="ROLLED_BACK",
                verdicts=(
                    VerdictStatus.of("staged", verdict(), None),
                    VerdictStatus.of("staged", seen, AT),
                    VerdictStatus.of(
                        "staged", verdict(answer="no_data", observed=None, n=0, needed=20), None
                    ),
                ),
                criticals=(CriticalStatus.of(Critical("breaker_open", "cf", "5 failures in a row")),),
                shares=(),
                blamed="region=eu",
                learning=False,
            )
        )
    )
    result = run("triggers", "--admin", admin.url)
    lines = [line.split() for line in result.output.splitlines()]
    assert result.output.startswith("critical: breaker_open cf: 5 failures in a row\n")
    assert ["error_p1", "all", "staged", "ok", "0", "%", "0.1", "%", "4000", "-", "-", "-", "-"] in lines
    breach = next(it for it in lines if "BREACH" in it)
    assert " ".join(breach[:10]) == "error_p1 region=eu staged BREACH (detector) 12.3 % 0.1 % 4000"
    assert next(it for it in lines if "no" in it)[3:5] == ["no", "data"]
    assert result.output.endswith("region=eu explains it; the rest is well\n")


def test_parts_are_a_table_of_what_went_wrong_in_each(run, admin):
    admin.answer = {
        "shares": [
            {"side": "exposed", "segment": "all", "n": 900, "wrong": {"error_p1": 0.1, "latency_p1": 0.02}},
            {"side": "exposed", "segment": "region=eu", "n": 90, "wrong": {"error_p1": 1.0}},
            {"side": "", "segment": "upstream=cf", "n": 800, "wrong": {"failed": 0.1125}},
        ]
    }
    lines = [line.split() for line in run("triggers", "--parts", "--admin", admin.url).output.splitlines()]
    assert lines == [
        ["OF", "SIDE", "REQUESTS", "ERROR_P1", "LATENCY_P1", "FAILED"],
        ["all", "exposed", "900", "10", "%", "2", "%", "-"],
        ["region=eu", "exposed", "90", "100", "%", "-", "-"],
        ["upstream=cf", "-", "800", "-", "-", "11.2", "%"],
    ]


def test_the_status_page_shows_it_where_it_is_looked_for_first(run, admin):
    from test_cli_remote import STATUS, wire

    known = {name: it for name, it in standing().items() if name not in {"learning", "moves"}}
    admin.answer = wire(STATUS) | {"rollback": known}
    result = run("status", "--admin", admin.url)
    assert "rollback ROLLED_BACK (stage 2) since 2026-01-02T03:04:05Z, 2 min" in result.output
    assert "why: error_p1" in result.output


def test_the_switch_says_when_answers_come_from_memory_all_the_same(run, admin):
    said = {
        "kill": False,
        "reason": "r",
        "by": "ann",
        "at": AT,
        "persisted": True,
        "rollback": "the rollback …",
    }
    admin.answer = said
    result = run("kill", "off", "--reason", "r", "--admin", admin.url)
    assert "answers come from memory all the same: the rollback …" in result.output
