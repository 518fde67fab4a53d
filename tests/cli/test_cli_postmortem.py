"""`fusebox postmortem`: one zip of all that tells of an incident, with and without a running sidecar."""

import hashlib
import sys
import zipfile
from math import isnan
from pathlib import Path

import orjson
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "eventlog"))
from eventing import Rig, body, error, ranking

from proxy.cli.postmortem_plots import curve

pytest.importorskip("duckdb")

BETWEEN = ("--since", "2025-11-25T11:50:00Z", "--until", "2025-11-25T12:10:00Z")


@pytest.fixture
def incident(config):
    """Ten good minutes, a rollback at noon, ten better ones; the state directory of a dead sidecar."""
    config.write_text(config.read_text() + '[events]\ndirectory = "log"\n')
    rig = Rig(config.parent / "log")
    for at in range(-60, 60):
        bad = -20 <= at < 0
        answer = body(covered=2 if bad else 10)
        rig.take(ranking(at * 10.0, at + 60, answer=answer, failed=bad))
        if bad:
            rig.take(error(at * 10.0, at + 60))
    columns = {
        "subject": "rollback",
        "state_before": "NORMAL",
        "state_after": "ROLLED_BACK",
        "event": "critical",
        "stage": "2",
        "actor": "fusebox",
        "reason": "error_p1",
        "triggers": ["error_p1", "error_p1"],
    }
    warned = {"state_after": "DEGRADED", "stage": "1"}
    rig.take(("transition", -50.0, columns | warned), ("transition", 0.0, columns))
    rig.writer.close()
    state = config.parent / "var"
    state.mkdir()
    for name in ("kill.json", "toggles.json", "tokens.json", "audit.key"):
        (state / name).write_text("{}")
    return config


def made(run, *words):
    result = run("postmortem", *BETWEEN, *words)
    assert result.exit_code == 0, result.output
    return result


def parts(path):
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        return {name: file.read(name) for name in file.namelist()}


def test_on_files_alone_it_says_what_is_missing(run, incident, tmp_path):
    out = tmp_path / "kit.zip"
    result = made(run, "--config", incident, "--out", out, "--admin", "http://127.0.0.1:9")
    found = parts(out)
    manifest = orjson.loads(found["manifest.json"])
    assert {it["name"] for it in manifest["files"]} == set(found) - {"manifest.json"}
    for it in manifest["files"]:
        assert hashlib.sha256(found[it["name"]]).hexdigest() == it["sha256"]
    missing = {it["name"]: it["why"] for it in manifest["missing"]}
    assert "nothing answers" in missing["now/status.json"]
    assert "rollback.json" in missing["state/rollback.json"]
    assert "missing: now/status.json" in result.stderr
    assert out.stat().st_mode & 0o777 == 0o600
    before, after = orjson.loads(found["queries/efficacy.json"])
    assert (before["requests"], after["requests"]) == (60, 60)
    assert before["avg_coverage"] < after["avg_coverage"] == 1.0
    assert len(orjson.loads(found["queries/answers.json"])) == 20
    assert [name for name in found if name.endswith(".png")] == [
        f"plots/{name}.png" for name in ("requests", "avg_coverage", "error_rate_per_1k", "p95_latency")
    ]
    assert all(found[name].startswith(b"\x89PNG") for name in found if name.endswith(".png"))
    told = found["timeline.txt"].decode()
    assert "rollback: NORMAL → ROLLED_BACK (stage 2) [error_p1]  by fusebox: error_p1" in told
    text = found["report.md"].decode()
    assert "| failed requests | 20 (166.7 per thousand) |" in text
    assert "| requests judged | 120 |" in text


def test_no_secret_is_in_it(run, incident, tmp_path):
    out = tmp_path / "kit.zip"
    made(run, "--config", incident, "--out", out, "--admin", "http://127.0.0.1:9")
    assert {name for name in parts(out) if name.startswith("state/")} == {
        "state/kill.json",
        "state/toggles.json",
    }


def test_a_running_sidecar_is_asked(run, incident, admin, tmp_path):
    admin.answer = {"entries": [], "versions": [], "next": None}
    version = {
        "version": 7,
        "at": "2025-11-25T12:01:00.000000Z",
        "by": "ann",
        "reason": "too many errors",
        "kind": "patch",
        "diff": {"disable_cf": {}},
    }
    admin.scripted["GET", "/v1/toggles/history?limit=500"] = 200, {"versions": [version], "next": None}
    out = tmp_path / "kit.zip"
    made(run, "--config", incident, "--out", out, "--admin", admin.url, "--token", "t")
    found = parts(out)
    assert {name for name in found if name.startswith("now/")} == {
        f"now/{name}.json" for name in ("status", "rollback", "triggers", "breakers", "toggles")
    }
    assert [it["who"] for it in orjson.loads(found["timeline.json"])] == ["fusebox", "fusebox", "ann"]
    assert b"toggles version 7 (patch): disable_cf  by ann: too many errors" in found["timeline.txt"]
    asked = [path for _, path, _, _ in admin.asked if path.startswith("/v1/audit")]
    assert all("action=" in path and "action=user" not in path for path in asked)


def test_nothing_is_overwritten(run, incident, tmp_path):
    out = tmp_path / "kit.zip"
    out.write_text("mine")
    result = run("postmortem", *BETWEEN, "--config", incident, "--out", out, "--admin", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "is there already" in result.stderr
    assert out.read_text() == "mine"


def test_without_an_event_log_the_rest_is_there(run, config, tmp_path):
    out = tmp_path / "kit.zip"
    result = made(run, "--config", config, "--out", out, "--admin", "http://127.0.0.1:9", "--json")
    told = orjson.loads(result.stdout)
    assert "events.directory: is missing" in told["missing"]["queries"]
    assert {"timeline.txt", "report.md"} <= set(told["parts"])


def test_where_nothing_was_asked_the_curve_is_broken():
    rows = [{"from_ms": at * 1_000, "error_rate_per_1k": 5.0} for at in (0, 30, 300)]
    found = curve(rows, "error_rate_per_1k", 30)
    assert [at for at, _ in found] == [0, 30_000, 60_000, 300_000]
    assert isnan(found[2][1])
