"""The drills of the rollback over HTTP: begun, shown, ended, refused; each recorded first."""

from proxy.core.override import Overrides, verify
from proxy.core.roles import Role


async def asked(admin, method, **body):
    how = {"json": body} if body else {}
    response = await admin.ask(method, "/v1/drills", role=Role.OPERATOR, **how)
    return response, await response.json()


async def test_a_drill_is_begun_shown_and_ended(admin):
    _, found = await asked(admin, "GET")
    assert (found["drill"], set(found["names"])) == (
        None,
        {"rollback", "coverage", "latency", "error", "recovery"},
    )
    _, begun = await asked(admin, "POST", name="error", reason="monthly", clocks={"hold_s": 7})
    assert (begun["drill"]["name"], begun["drill"]["over"], begun["drill"]["state"]) == (
        "error",
        "",
        "NORMAL",
    )
    override = verify(b"k" * 32, begun["override"].encode(), Overrides(), admin.wall).override
    assert override.drill == begun["drill"]["id"] == admin.plane.policy.drill.id
    _, found = await asked(admin, "GET")
    assert found["drill"]["reason"] == "monthly"
    assert "override" not in found
    response, found = await asked(admin, "DELETE", reason="enough")
    assert (found["drill"]["over"], admin.plane.policy.drill) == ("aborted", None)
    assert response.headers["X-Fusebox-Changed"] == "true"
    assert [(it.action, it.target) for it in admin.trail.entries] == [
        ("drill.start", "error"), ("drill.abort", "error"),
    ]  # fmt: skip
    assert admin.trail.entries[0].after["hold_s"] == 7


async def test_what_cannot_be_is_refused_and_changes_nothing(admin):
    await asked(admin, "POST", name="error", reason="one")
    response, problem = await asked(admin, "POST", name="latency", reason="another")
    assert (response.status, problem["code"]) == (409, "drill_refused")
    assert "the drill error of" in problem["detail"]
    await asked(admin, "DELETE", reason="enough")
    admin.rollback.engine.start(admin.clock(), "somebody", "test")
    response, problem = await asked(admin, "POST", name="latency", reason="another")
    assert "the rollback is in ROLLED_BACK" in problem["detail"]
    for body in (
        {"name": "fire"},
        {"name": "error", "clocks": {"hold_s": 0}},
        {"name": "error", "clocks": {"x": 1}},
    ):
        response, problem = await asked(admin, "POST", reason="r", **body)
        assert response.status in {400, 422}, problem


async def test_a_drill_stays_while_toggles_change_and_goes_with_a_kill(admin):
    await asked(admin, "POST", name="error", reason="monthly")
    drill = admin.plane.policy.drill
    headers = {"If-Match": "*"}
    body = {"toggles": {"exposure_percent": 50}, "reason": "test"}
    await admin.ask("PATCH", "/v1/toggles", role=Role.OPERATOR, json=body, headers=headers)
    assert admin.plane.policy.drill is drill
    await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, json={"reason": "fire"})
    admin.drills.tick()
    assert admin.plane.policy.drill is None
    _, found = await asked(admin, "GET")
    assert (found["drill"]["over"], found["drill"]["why"]) == ("aborted", "the kill switch is on")
