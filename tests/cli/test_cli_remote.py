"""Commands that talk to the admin API: what they ask, what they print, how they fail."""

import asyncio
import re
import socket
import threading
from dataclasses import replace

import orjson
import pytest

from proxy.control.breakers import BreakerControl
from proxy.control.kill import KillStatus
from proxy.control.status import (
    Reload,
    RouteStatus,
    ShadowStatus,
    Status,
    ToggleStatus,
    UpstreamStatus,
    WorkerStatus,
)
from proxy.control.toggles import ReturnStatus
from proxy.core.breaker import Breaker, BreakerSettings

OFF = KillStatus(kill=False, reason="", by="", at="", persisted=True)
ON = KillStatus(kill=True, reason="cf burns", by="ann", at="2026-01-02T03:04:05+00:00", persisted=True)


class Held:
    """One breaker as the control plane reports it, at a time the test says."""

    def __init__(self, *, dry_run=False):
        self.now = 0.0
        self.control = BreakerControl(self, monotonic=lambda: self.now, wall=lambda: self.now)
        settings = BreakerSettings(dry_run=dry_run)
        made = Breaker("cf", settings, rng=lambda: 0.5, on_transition=self.control.heard, now=0.0)
        self.breakers = {"cf": made}

    async def settled(self):
        pass

    def command(self, action, reason):
        return asyncio.run(self.control.command("cf", action, reason=reason, by="ann"))

    def report(self):
        return self.control.read()["cf"]


TOGGLES = ToggleStatus(
    version=3, baseline="normal", by="ann", at="T0", reason="as usual", changed={}, rules=0, frozen=None,
    reverts=(), troubles=(),
)  # fmt: skip

STATUS = Status(
    version="9.9",
    uptime_s=61.5,
    draining=False,
    policy_version=3,
    policy_age_s=1.0,
    kill=ON,
    toggles=TOGGLES,
    connections=12,
    routes=(
        RouteStatus(
            name="pay",
            path="/pay/",
            kind="forward",
            upstreams=("cf",),
            flag="billing",
            on=False,
            priority="low",
        ),
    ),
    upstreams={"cf": UpstreamStatus(urls=("http://a", "http://b"), inflight=4, queued=5, max_inflight=6)},
    breakers={"cf": Held(dry_run=True).report()},
    reload=None,
)


WORKERS = (
    WorkerStatus(number=1, pid=71, state="serving", for_s=9.6, connections=5, restarts=0, failed=""),
    WorkerStatus(
        number=2, pid=0, state="waiting", for_s=0.2, connections=0, restarts=3, failed="killed by SIGKILL"
    ),
)


def wire(value):
    """As the admin API renders it."""
    return orjson.loads(orjson.dumps(value))


def test_status_shows_kill_switch_breakers_upstreams_and_routes(run, admin):
    admin.answer = wire(STATUS)
    result = run("status", "--admin", admin.url, "--token", "fbx_t")
    assert result.exit_code == 0
    assert admin.asked == [("GET", "/v1/status", "Bearer fbx_t", b"")]
    lines = result.output.splitlines()
    assert lines[0] == "fusebox 9.9, serving for 62 s, 12 connections, policy 3"
    assert lines[1] == "kill switch ON, 2026-01-02T03:04:05+00:00 by ann: cf burns"
    rows = [line.split() for line in lines]
    assert ["cf", "closed", "(dry", "run)", "-", "4", "5", "http://a", "http://b", "-"] in rows
    assert ["pay", "/pay/", "forward", "low", "cf", "billing", "OFF"] in rows


def test_status_says_what_is_not_as_usual_whose_it_is_and_when_it_returns(run, admin):
    admin.answer = wire(STATUS)
    assert "toggles" not in run("status", "--admin", admin.url).output
    told = replace(
        TOGGLES,
        by="otto",
        reason="cf is\nslow",
        changed={"policy_mode": "content_only", "exposure_percent": 50.0},
        rules=1,
        frozen="hybrid_v1",
        reverts=(ReturnStatus(at="T1", version=2, names=("exposure_percent", "rules")),),
    )
    admin.answer = wire(replace(STATUS, toggles=told))
    assert (
        "toggles policy_mode=content_only, exposure_percent=50, 1 rule; last change T0 by otto: cf is slow\n"
        "experiment hybrid_v1 is frozen\n"
        "returns T1: exposure_percent, rules\n"
    ) in run("status", "--admin", admin.url).output


def test_status_shows_workers_where_there_are_any(run, admin):
    admin.answer = wire(STATUS)
    assert "WORKER" not in run("status", "--admin", admin.url, "--token", "fbx_t").output
    admin.answer = wire(replace(STATUS, workers=WORKERS))
    rows = [
        line.split() for line in run("status", "--admin", admin.url, "--token", "fbx_t").output.splitlines()
    ]
    assert ["1", "71", "serving", "10", "s", "5", "0", "-"] in rows
    assert ["2", "-", "waiting", "0", "s", "0", "3", "killed", "by", "SIGKILL"] in rows


def test_status_shows_shadows_where_there_are_any(run, admin):
    admin.answer = wire(STATUS)
    assert "SHADOW" not in run("status", "--admin", admin.url).output
    told = {
        "films": ShadowStatus(
            percent=0.5, to="", compared=9, same=4, overlap=0.75, rank_agreement=0.8125, real_ms=10.04,
            shadow_ms=8.0, results={"same": 4, "other_items": 5, "timeout": 1, "skipped_busy": 2},
        ),
        "pay": ShadowStatus(
            percent=100.0, to="new", compared=0, same=0, overlap=None, rank_agreement=None, real_ms=None,
            shadow_ms=None, results={},
        ),
    }  # fmt: skip
    admin.answer = wire(replace(STATUS, shadows=told))
    rows = [line.split() for line in run("status", "--admin", admin.url).output.splitlines()]
    assert ["films", "0.5", "second", "plan", "9", "4", "0.75", "0.812", "8", "10", "1", "2"] in rows
    assert ["pay", "100", "new", "0", "0", "-", "-", "-", "-", "0", "0"] in rows


def test_status_tells_whom_the_flap_budget_holds(run, admin):
    eu = {"region": ["eu", "us"], "cohort": [], "client": []}
    held = [
        {"scope": None, "low": 1000, "high": 4999, "percent": 40.0, "until": "T1"},
        {"scope": eu, "low": 0, "high": 0, "percent": 0.01, "until": "T2"},
    ]
    admin.answer = wire(STATUS) | {"held": held}
    output = run("status", "--admin", admin.url).output
    assert (
        "held in control by the flap budget: buckets 1000 to 4999, 40 % of the users, until T1\n"
        "held in control by the flap budget: buckets 0 to 0, 0.01 % of the users, region eu or us, until T2\n"
    ) in output


def test_status_tells_of_a_refused_reload(run, admin):
    admin.answer = wire(replace(STATUS, reload=Reload(ok=False, at="then", problems=("listen.address: no",))))
    assert (
        "the reload at then was refused:\n  listen.address: no" in run("status", "--admin", admin.url).output
    )


def test_status_tells_what_is_wrong_beside_the_traffic(run, admin):
    admin.answer = wire(replace(STATUS, troubles=("fusebox.db: its file system is full",)))
    lines = run("status", "--admin", admin.url).output.splitlines()
    assert lines[2] == "trouble: fusebox.db: its file system is full"


def test_status_as_json_is_the_whole_answer(run, admin):
    admin.answer = wire(STATUS)
    assert orjson.loads(run("status", "--json", "--admin", admin.url).output) == admin.answer


def test_the_environment_names_admin_and_token(run, admin):
    admin.answer = wire(STATUS)
    bare = admin.url.removeprefix("http://")
    result = run("status", env={"FUSEBOX_ADMIN": bare, "FUSEBOX_TOKEN": "fbx_e\n"})
    assert result.exit_code == 0
    assert admin.asked[0][2] == "Bearer fbx_e"


@pytest.mark.parametrize(("word", "method", "answer"), [("on", "PUT", ON), ("off", "DELETE", OFF)])
def test_kill_sends_the_reason(run, admin, word, method, answer):
    admin.answer = wire(answer)
    result = run("kill", word, "--reason", "cf burns", "--admin", admin.url)
    assert result.exit_code == 0
    assert admin.asked[0][:2] == (method, "/v1/kill")
    assert orjson.loads(admin.asked[0][3]) == {"reason": "cf burns"}
    assert f"kill switch {'ON' if word == 'on' else 'off'}" in result.output


def test_kill_status_only_reads(run, admin):
    admin.answer = wire(OFF)
    result = run("kill", "status", "--admin", admin.url)
    assert result.output == "kill switch off\n"
    assert admin.asked[0][:2] == ("GET", "/v1/kill")


@pytest.mark.parametrize(
    "words", [("kill", "on"), ("kill", "off", "--reason", " "), ("breaker", "cf", "open")]
)
def test_changes_without_a_reason_are_not_sent(run, admin, words):
    result = run(*words, "--admin", admin.url)
    assert result.exit_code == 2
    assert "--reason" in result.stderr
    assert admin.asked == []


def test_a_kill_that_a_restart_forgets_is_told_and_exits_1(run, admin):
    admin.answer = wire(replace(ON, persisted=False))
    result = run("kill", "on", "--reason", "r", "--admin", admin.url)
    assert result.exit_code == 1
    assert "kill switch ON" in result.stdout
    assert "the switch is ON now, but" in result.stderr


def test_breaker_sends_name_and_action(run, admin):
    held = Held(dry_run=True)
    admin.answer = wire(held.command("open", "r"))
    result = run("breaker", "c/f", "open", "--reason", "r", "--admin", admin.url)
    assert result.output == "c/f: open by hand (dry run)\n"
    assert admin.asked[0][:2] == ("POST", "/v1/breakers/c%2Ff/open")


def test_a_ramp_is_told_as_it_runs_and_not_when_it_is_over(run, admin):
    held = Held()
    for action, after, told in (
        ("open", 0, "cf: open by hand"),
        ("auto", 0, "cf: closed, letting users back in: 10 %"),
        ("auto", 5, "cf: closed, letting users back in: 55 %"),
        ("auto", 5, "cf: closed"),
        ("close", 0, "cf: closed by hand"),
    ):
        held.now += after
        admin.answer = wire(held.command(action, "r"))
        result = run("breaker", "cf", action, "--reason", "r", "--admin", admin.url)
        assert result.output == told + "\n"


@pytest.mark.parametrize(
    ("later", "since"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_status_says_since_when_and_why_a_breaker_is_as_it_is(run, admin, later, since):
    held = Held()
    held.command("open", "it\nburns")
    held.now += later
    admin.answer = wire(replace(STATUS, breakers={"cf": held.report()}))
    row = next(line for line in run("status", "--admin", admin.url).output.splitlines() if line[:3] == "cf ")
    assert row.split()[:6] == ["cf", "open", "by", "hand", *since.split()]
    assert row.endswith("http://b  it burns")


def test_status_of_a_recovering_breaker_still_says_what_had_tripped_it(run, admin):
    held = Held()
    held.command("open", "it burns")
    held.command("auto", "mended")
    admin.answer = wire(replace(STATUS, breakers={"cf": held.report()}))
    told = run("status", "--admin", admin.url).output
    assert "mended; was opened at 1970-01-01T00:00:00+00:00: it burns" in told


@pytest.mark.parametrize(
    ("status", "token", "words"),
    [
        (401, "", "give --token or FUSEBOX_TOKEN"),
        (401, "fbx_t", "unknown there, expired or revoked"),
        (403, "fbx_t", "higher role"),
        (429, "fbx_t", "others wait a minute"),
        (503, "fbx_t", "Not now: really not"),
    ],
)
def test_a_refusal_is_told_with_the_way_out(run, admin, status, token, words):
    admin.status, admin.answer = status, {"title": "Not now", "detail": "really not"}
    result = run("status", "--admin", admin.url, env={"FUSEBOX_TOKEN": token})
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Not now: really not")
    assert words in result.stderr


def test_the_other_address_is_known_by_its_answer(run, admin):
    """The data plane answers JSON as well, to whoever mixes the two up."""
    admin.status, admin.answer = 404, {"title": "Not Found", "code": "no_route"}
    assert "--admin takes the address in [admin]" in run("status", "--admin", admin.url).stderr


@pytest.mark.parametrize("content", [b"<html>", b""])
def test_an_address_that_is_not_the_admin_api_is_told(run, admin, content):
    admin.content = content
    result = run("status", "--admin", admin.url)
    assert result.exit_code == 1
    assert "no admin API" in result.stderr


def test_nobody_there_is_told_with_the_way_out(run):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        result = run("status", "--admin", f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert result.exit_code == 1
    assert "is the sidecar running?" in result.stderr
    assert "Traceback" not in result.output


def test_an_answer_that_breaks_off_leaves_it_open_whether_the_change_happened(run):
    """It is asked for twice, under one key, so that it happens at most once."""
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up():
            for _ in range(2):
                connection, _ = server.accept()
                asked.append(connection.recv(65_536))
                connection.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        result = run("kill", "on", "--reason", "r", "--admin", url)
        thread.join(10)
    assert result.exit_code == 1
    assert "may or may not have happened" in result.stderr
    first, second = [re.search(rb"Idempotency-Key: (\w{32})\r\n", it)[1] for it in asked]
    assert first == second


@pytest.mark.parametrize("url", ["ftp://h", "http://", "http://[", "http://h:x", ""])
def test_an_admin_url_that_is_none_is_wrong_usage(run, url):
    assert run("status", "--admin", url).exit_code == 2


def test_a_token_that_is_none_is_wrong_usage_and_not_repeated(run, admin):
    result = run("status", "--admin", admin.url, "--token", "secret\r\nX: y")
    assert result.exit_code == 2
    assert "secret" not in result.output
