"""`drill error` and its like against a scripted sidecar; a real one stands in `tests/runtime`."""

import orjson
import pytest
from test_cli_drill import FakeSidecar

from proxy.core.rollback.exercises import NAMES

TRIGGER = {"mode": "rollback", "name": "trigger", "holds": True, "seen": "error_p1", "wanted": "soon"}
MOVE = {"after_s": 1.0, "before": "NORMAL", "to": "DEGRADED", "reason": "bad"}


def shown(**more):
    return {"id": "drill-1", "over": "", "why": "", "state": "NORMAL", "moves": [], "criteria": []} | more


@pytest.fixture
def sidecar():
    fake = FakeSidecar()
    yield fake
    fake.stop()


@pytest.fixture
def drill(run, sidecar, admin, tmp_path):
    """The drill begins, and is over at the first look, as `admin.scripted` says."""
    begun = {"drill": shown(), "override": "c"}
    over = shown(over="finished", state="NORMAL", moves=[MOVE], criteria=[TRIGGER])
    admin.scripted = {
        ("POST", "/v1/drills"): (200, begun),
        ("GET", "/v1/drills"): (200, {"drill": over, "names": {}}),
        ("DELETE", "/v1/drills"): (200, {"drill": shown(over="aborted"), "names": {}}),
    }

    def drill(*words, name="error"):
        where = ("--url", sidecar.url, "--admin", admin.url, "--token", "t")
        few = ("--config", tmp_path / "none.toml", "--per-s", "50", "--users", "3")
        return run("drill", name, "--reason", "monthly", *where, *few, *words)

    return drill


def test_it_begins_asks_follows_and_tells(drill, sidecar, admin):
    result = drill("--clock", "hold_s=3")
    assert result.exit_code == 0, result.output
    method, path, _, body = admin.asked[0]
    assert (method, path) == ("POST", "/v1/drills")
    assert orjson.loads(body) == {"name": "error", "reason": "monthly", "clocks": {"hold_s": 3.0}}
    assert "DELETE" not in {it[0] for it in admin.asked}
    assert {(override, path) for override, _, path in sidecar.asked} == {("c", "/films")}
    assert {user for _, user, _ in sidecar.asked} == {"u001", "u002", "u003"}
    assert "   1.00 s  NORMAL → DEGRADED: bad\n" in result.stdout
    assert "trigger            yes    error_p1" in result.stdout
    assert result.stdout.endswith("ok: 6 of 6 criteria hold\n")


def test_as_json_it_is_the_drill_and_every_criterion(drill):
    found = orjson.loads(drill("--json").stdout)
    assert (found["ok"], found["drill"]["over"]) == (True, "finished")
    assert [it["name"] for it in found["criteria"]] == [
        "trigger", "fill", "UI fields", "same bucket", "requests answered", "request volume",
    ]  # fmt: skip
    assert [it["mode"] for it in found["states"]] == ["NORMAL"]


def test_a_criterion_of_the_sidecar_that_fails_is_exit_code_1(drill, admin):
    failed = [TRIGGER | {"holds": False}]
    over = shown(over="aborted", why="the kill switch is on", criteria=failed)
    admin.scripted["GET", "/v1/drills"] = (200, {"drill": over, "names": {}})
    result = drill()
    assert result.exit_code == 1
    assert "trigger            NO" in result.stdout
    assert result.stdout.endswith("NOT ok: 5 of 6 criteria hold\n")


def spoiled(**how):
    def spoil(n, document):
        if "status" in how:
            return how["status"], b"{}"
        if "bucket" in how:
            document["metadata"]["bucket"] += n
        if "short" in how:
            document["items"].pop()
        return document

    return spoil


@pytest.mark.parametrize(
    ("how", "names"),
    [
        ({"bucket": True}, {"same bucket"}),
        ({"short": True}, {"fill", "UI fields"}),
        ({"status": 503}, {"fill", "UI fields", "same bucket", "requests answered", "request volume"}),
    ],
)
def test_what_users_would_notice_fails_it(drill, sidecar, how, names):
    sidecar.spoil = spoiled(**how)
    result = drill("--json", "--users", "1")
    assert result.exit_code == 1
    assert {it["name"] for it in orjson.loads(result.stdout)["criteria"] if not it["holds"]} == names


def test_what_is_refused_asks_nobody(drill, sidecar, admin):
    problem = {"detail": "There is no drill now: killed.", "code": "drill_refused"}
    admin.scripted["POST", "/v1/drills"] = (409, problem)
    result = drill()
    assert result.exit_code == 1
    assert "There is no drill now: killed." in result.stderr
    assert sidecar.asked == []


def test_a_sidecar_that_was_restarted_knows_nothing_of_it_and_the_command_ends(drill, admin):
    admin.scripted["GET", "/v1/drills"] = (200, {"drill": None, "names": {}})
    result = drill()
    assert result.exit_code == 1
    assert "was it restarted?" in result.stderr
    assert ("DELETE", "/v1/drills") in {it[:2] for it in admin.asked}  # whatever there is of it


@pytest.mark.parametrize("word", ["hold_s", "hold_s=x", "hold=3", "=3"])
def test_a_clock_is_one_of_those_there_are_and_a_number(drill, word):
    result = drill("--clock", word)
    assert result.exit_code == 2
    assert "should be like hold_s=5, one of lead_s, confirm_s" in result.stderr


def test_every_drill_has_a_command_that_says_what_it_does(run):
    for name in NAMES:
        told = run("drill", name, "--help").stdout
        assert "Exit code 1 when one does not hold" in " ".join(told.split())
        assert "--reason" in told
