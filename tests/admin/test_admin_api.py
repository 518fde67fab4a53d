import json

import pytest
from face import Admin

from proxy.core.roles import Role


async def test_livez_and_readyz_need_no_token_and_say_why_not_ready(admin):
    live, ready = await admin.ask("GET", "/livez"), await admin.ask("GET", "/readyz")
    assert (live.status, await live.json()) == (200, {"live": True})
    assert (ready.status, await ready.json()) == (200, {"ready": True, "reasons": [], "troubles": []})
    admin.reasons.append("draining")
    ready = await admin.ask("GET", "/readyz")
    assert (ready.status, await ready.json()) == (
        503,
        {"ready": False, "reasons": ["draining"], "troubles": []},
    )
    assert (await admin.ask("GET", "/livez")).status == 200


async def test_a_store_that_is_gone_is_told_and_keeps_no_traffic_away(tmp_path):
    admin = Admin(tmp_path, troubles=lambda: ["fusebox.db: disk I/O error", ""])
    await admin.start()
    ready = await admin.ask("GET", "/readyz")
    assert (ready.status, (await ready.json())["troubles"]) == (200, ["fusebox.db: disk I/O error"])
    await admin.stop()


async def test_head_answers_like_get_without_a_body(admin):
    response = await admin.ask("HEAD", "/readyz")
    assert (response.status, int(response.headers["Content-Length"]) > 0) == (200, True)


async def test_metrics_show_the_counters_in_the_format_asked_for(admin):
    admin.counters.cell("payment", "").count(200, 0.01)
    text = await admin.ask("GET", "/metrics")
    assert 'fusebox_requests_total{arm="",route="payment",status_class="2xx"} 1.0' in await text.text()
    assert text.content_type == "text/plain"
    openmetrics = await admin.ask("GET", "/metrics", headers={"Accept": "application/openmetrics-text"})
    assert openmetrics.content_type == "application/openmetrics-text"


async def test_status_tells_version_routes_upstreams_breakers_kill_and_the_last_reload(admin):
    status = await (await admin.ask("GET", "/v1/status", role=Role.VIEWER)).json()
    assert status["version"]
    assert status["routes"][0]["name"] == "payment"
    assert status["upstreams"]["payment"]["urls"] == ["http://127.0.0.1:9103"]
    assert status["breakers"]["payment"]["state"] == "closed"
    assert status["kill"]["kill"] is False
    assert status["reload"] is None


async def test_the_kill_switch_is_thrown_and_released_with_who_and_why(admin, caplog):
    caplog.set_level("INFO")
    thrown = await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, json={"reason": "cf returns garbage"})
    state = await thrown.json()
    assert (state["kill"], state["by"], state["persisted"]) == (True, "the-commander", True)
    assert admin.plane.policy.toggles.kill_switch is True
    assert json.loads(admin.kill_file.read_text())["reason"] == "cf returns garbage"
    change = next(record for record in caplog.records if record.message == "changed: kill on")
    assert (change.by, change.role, change.reason) == ("the-commander", "commander", "cf returns garbage")
    assert change.request_id == thrown.headers["X-Request-Id"]
    assert change.address == "127.0.0.1"

    read = await (await admin.ask("GET", "/v1/kill", role=Role.VIEWER)).json()
    assert read == state
    released = await admin.ask("DELETE", "/v1/kill", role=Role.COMMANDER, json={"reason": "mended"})
    assert (await released.json())["kill"] is False
    assert admin.plane.policy.toggles.kill_switch is False


async def test_a_release_takes_its_reason_from_the_query_as_well(admin):
    await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, json={"reason": "drill"})
    released = await admin.ask("DELETE", "/v1/kill?reason=over%20now", role=Role.COMMANDER)
    assert (released.status, (await released.json())["reason"]) == (200, "over now")


async def test_a_release_that_cannot_be_remembered_is_refused_and_the_kill_stays(admin):
    await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, json={"reason": "drill"})
    admin.kill_file.unlink()
    admin.kill_file.mkdir()  # nothing can replace a directory
    refused = await admin.ask("DELETE", "/v1/kill", role=Role.COMMANDER, json={"reason": "over"})
    assert (refused.status, (await refused.json())["code"]) == (503, "kill_not_released")
    assert admin.plane.policy.toggles.kill_switch is True


async def test_a_breaker_is_held_open_held_closed_and_given_back(admin):
    path = "/v1/breakers/payment"
    for action, forced, state in (
        ("open", "open", "open"),
        ("close", "closed", "closed"),
        ("auto", None, "closed"),
    ):
        body = {"reason": f"to {action}"}
        response = await admin.ask("POST", f"{path}/{action}", role=Role.OPERATOR, json=body)
        now = await response.json()
        assert (response.status, now["forced"], now["state"]) == (200, forced, state)
    listed = await (await admin.ask("GET", "/v1/breakers", role=Role.VIEWER)).json()
    assert listed["payment"]["last"]["reason"] == "to close"
    assert listed["payment"]["last_trip"]["reason"] == "to open"
    assert listed["payment"]["last_trip"]["at"].endswith("+00:00")


async def test_an_unknown_breaker_is_404_and_names_those_there_are(admin):
    response = await admin.ask("POST", "/v1/breakers/paymnt/open", role=Role.OPERATOR, json={"reason": "x"})
    problem = await response.json()
    assert (response.status, problem["code"]) == (404, "unknown_breaker")
    assert "payment" in problem["detail"]


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/v1/kill"), ("DELETE", "/v1/kill"), ("POST", "/v1/breakers/payment/open")]
)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"reason": ""}',
        b'{"reason": "  "}',
        b'{"reason": 7}',
        b'{"reason": null}',
        b'{"reason": ["x"]}',
    ],
)
async def test_a_change_without_a_reason_is_400_naming_it_and_changes_nothing(admin, method, path, body):
    response = await admin.ask(method, path, role=Role.ADMIN, data=body)
    problem = await response.json()
    assert (response.status, problem["code"]) == (400, "bad_request")
    assert "reason" in problem["detail"]
    assert admin.plane.policy.toggles.kill_switch is False
    assert admin.plane.breakers["payment"].forced is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "no JSON"),
        (b"[1]", "object"),
        (b"\xff", "no JSON"),
        (b"[" * 5000, "no JSON"),
        (b'{"reason": "x", "ttl": "10m"}', "ttl"),
        (b'{"reason": "' + b"x" * 501 + b'"}', "500"),
    ],
)
async def test_a_body_that_is_not_understood_is_400_and_changes_nothing(admin, body, said):
    response = await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, data=body)
    assert response.status == 400
    assert said in (await response.json())["detail"]
    assert admin.plane.policy.toggles.kill_switch is False
