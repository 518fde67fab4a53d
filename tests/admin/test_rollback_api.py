"""The rollback over the admin API: read, ordered by who may, recorded first, previewed."""

from dataclasses import replace

import pytest

from proxy.clock import monotonic
from proxy.core.roles import Role
from proxy.core.rollback.engine import World
from proxy.core.rollback.signals import FAILED, REQUESTS, Calls, Delta, Key, columns

WHY = {"reason": "test"}


async def post(admin, action, role=Role.OPERATOR, /, **body):
    reason = {} if action == "preview" else WHY
    response = await admin.ask("POST", f"/v1/rollback/{action}", role=role, json=reason | body)
    return response.status, await response.json()


async def get(admin, path, **how):
    response = await admin.ask("GET", path, role=Role.VIEWER, **how)
    return response.status, await response.json()


def stages(admin):
    return {it.stage for it in admin.plane.policy.layers}


async def test_in_one_order_it_is_rolled_back_and_released_again(admin):
    status, told = await post(admin, "start", stage="3")
    assert (status, told["state"], told["stage"], told["by"]) == (200, "ROLLED_BACK", "3", "the-operator")
    assert (told["reason"], told["applied"], told["persisted"]) == ("test", True, True)
    assert "fusebox rollback release" in told["next"]
    assert told["moves"][0]["now"] == "stage 3 for everybody"
    assert stages(admin) == {"3"}
    assert (await get(admin, "/v1/rollback"))[1] == told
    assert (await get(admin, "/v1/status"))[1]["rollback"]["state"] == "ROLLED_BACK"
    status, told = await post(admin, "release")
    assert (status, told["state"]) == (200, "RECOVERY_VERIFY")
    assert "1 % of the users are let out; then 5 %" in told["next"]
    assert told["layers"][0]["low"] == 100
    assert (told["began"], told["cause"]) == (told["moves"][1]["at"], "test")


async def test_a_step_that_has_had_all_its_time_says_that_it_waits_for_requests(admin):
    await post(admin, "start")
    await post(admin, "release")
    assert "more requests" not in (await get(admin, "/v1/rollback"))[1]["next"]
    for _ in range(6):
        admin.clock.now += 1_000.0
        admin.rollback.engine.step(admin.clock.now, World())
    told = (await get(admin, "/v1/rollback"))[1]
    assert "all users are let out, and more requests are needed to call that green" in told["next"]
    assert told["next_in_s"] is None


async def test_a_scope_is_for_whom_it_names(admin):
    _, told = await post(admin, "start", region=["eu"], cohort=["cold", "light"])
    assert told["layers"][0]["scope"] == {"region": ["eu"], "cohort": ["cold", "light"], "client": []}
    assert told["moves"][0]["now"].startswith("stage 2 for region=eu cohort=cold,light")


async def test_an_override_lies_there_as_it_stands(admin):
    status, told = await post(admin, "override", baseline="degraded")
    assert (status, told["state"], told["stage"]) == (200, "MANUAL_OVERRIDE", "degraded")
    assert told["layers"][0]["exact"]


async def test_it_is_recorded_before_it_takes_effect_and_without_the_store(admin):
    admin.trail.gone = "no store"
    await post(admin, "start")
    await admin.rollback._keeper.settled(2)
    order, move = admin.trail.entries
    assert (order.action, order.outcome, order.actor) == ("rollback.start", "accepted", "the-operator")
    assert order.before == {"state": "NORMAL", "layers": "nothing"}
    assert order.after["state"] == "ROLLED_BACK"
    assert (move.action, move.outcome, move.actor) == ("rollback.transition", "done", "the-operator")


async def test_what_cannot_be_recorded_does_not_happen(admin):
    admin.trail.full = "the spool is full"
    status, told = await post(admin, "start")
    assert (status, told["code"]) == (503, "store_unavailable")
    assert admin.plane.policy.layers == ()
    assert admin.rollback.engine.state == "NORMAL"


async def test_a_move_that_is_none_is_409_and_changes_nothing(admin):
    status, told = await post(admin, "release")
    assert (status, told["code"]) == (409, "illegal_move")
    assert "by hand there are: start, override" in told["detail"]
    await post(admin, "start", stage="3")
    status, told = await post(admin, "start", stage="1")
    assert (status, told["code"]) == (409, "illegal_move")
    assert stages(admin) == {"3"}


@pytest.mark.parametrize(
    ("action", "body"),
    [("start", {"stage": "emergency"}), ("override", {"baseline": "emergency"})],
)
async def test_an_emergency_begins_and_ends_by_commanders_only(admin, action, body):
    status, told = await post(admin, action, **body)
    assert (status, told["code"]) == (403, "forbidden")
    assert "begin an emergency stage, which needs the role commander" in told["detail"]
    assert (await post(admin, action, Role.COMMANDER, **body))[0] == 200
    for order, more in (("release", {}), ("override", {"baseline": "normal"})):
        status, told = await post(admin, order, **more)
        assert (status, told["code"]) == (403, "forbidden"), order
    assert any(it.kills for it in admin.plane.policy.layers)
    assert (await post(admin, "release", Role.COMMANDER))[0] == 200


async def test_a_switch_released_during_an_emergency_says_what_goes_on_and_what_ends_it(admin):
    await post(admin, "start", Role.COMMANDER, stage="emergency")
    response = await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, json=WHY)
    assert response.status == 200
    response = await admin.ask("DELETE", "/v1/kill", role=Role.COMMANDER, json=WHY)
    told = await response.json()
    assert told["kill"] is False
    assert "the rollback holds the emergency stage" in told["rollback"]
    assert "fusebox rollback release" in told["rollback"]
    await post(admin, "release", Role.COMMANDER)
    assert (await get(admin, "/v1/kill"))[1]["rollback"] == ""


async def test_while_killed_by_hand_it_stands_still_and_says_so(admin):
    await post(admin, "start")
    await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, json=WHY)
    told = (await get(admin, "/v1/rollback"))[1]
    await admin.rollback.tick()
    assert told["next"] == "it stands still while the kill switch is thrown"
    status, told = await post(admin, "release")
    assert (status, told["code"]) == (409, "illegal_move")


async def test_a_preview_shows_what_an_order_would_do_and_does_nothing(admin):
    status, told = await post(admin, "preview", Role.VIEWER, action="start", stage="3")
    assert status == 200
    assert (told["state_before"], told["state_after"], told["kills"]) == ("NORMAL", "ROLLED_BACK", False)
    assert (told["layers_before"], told["layers_after"][0]["stage"]) == ([], "3")
    assert told["verdict"] == "unknown"
    assert admin.plane.policy.layers == ()
    assert admin.trail.entries == []
    status, told = await post(admin, "preview", Role.VIEWER, action="release")
    assert (status, told["code"]) == (409, "illegal_move")


async def test_a_preview_of_toggles_is_under_the_layers_in_force(admin):
    """Or it would say that the change itself takes the stage off."""
    await post(admin, "start", stage="3")
    seen = []

    async def preview(after):
        seen.append(after.layers)
        return await type(admin.services.previews).preview(admin.services.previews, after)

    admin.services.previews.preview = preview
    body = {"toggles": {"exposure_percent": 50}}
    response = await admin.ask("POST", "/v1/toggles/preview", role=Role.VIEWER, json=body)
    assert response.status == 200
    assert seen == [admin.plane.policy.layers]


@pytest.mark.parametrize(
    "body",
    [
        {"stage": "4"},
        {"stage": 2},
        {"region": "eu"},
        {"region": [""]},
        {"regions": ["eu"]},
        {"reason": " "},
    ],
)
async def test_what_is_not_understood_is_400_and_named(admin, body):
    status, told = await post(admin, "start", **body)
    assert (status, told["code"]) == (400, "bad_request")
    (name,) = body
    assert name in told["detail"] or name in str(told["errors"])


async def test_an_unknown_baseline_is_told(admin):
    status, told = await post(admin, "override", baseline="calm")
    assert (status, told["code"]) == (400, "bad_request")
    assert "should be one of emergency, degraded" in told["detail"]


async def test_triggers_say_what_they_see(admin):
    await admin.rollback.tick()
    status, told = await get(admin, "/v1/triggers")
    assert (status, told["mode"], told["state"], told["blamed"]) == (200, "watch", "NORMAL", "all")
    assert {it["answer"] for it in told["verdicts"]} == {"no_data"}
    assert {it["says"].split(":")[1] for it in told["verdicts"]} == {" no data, which is never ok"}
    assert told["shares"] == []
    engine = admin.rollback.engine
    counts = [0] * columns(2)
    counts[REQUESTS], counts[FAILED] = 4, 1
    cells = {Key("recommendations", "a", "exposed", b"eu"): counts}
    calls = {"cf": Calls(calls=4, failed=2)}
    engine.feed(Delta(targets=engine.settings.targets, cells=cells, upstreams=calls), monotonic())
    _, told = await get(admin, "/v1/triggers")
    everything, upstream = told["shares"]
    assert (everything["segment"], everything["n"], everything["wrong"]["error_p1"]) == ("all", 4, 0.25)
    assert upstream == {
        "side": "",
        "segment": "upstream=cf",
        "n": 4,
        "wrong": {"failed": 0.5, "late": 0.0},
    }


async def test_off_is_told_everywhere(admin):
    policy = admin.rollback.policy()
    settings = replace(policy.rollback, mode="off")
    admin.rollback._layering.apply(replace(policy, rollback=settings))
    await admin.rollback.tick()
    for path in ("/v1/rollback", "/v1/triggers"):
        status, told = await get(admin, path)
        assert (status, told["code"]) == (409, "rollback_off")
    for action, body in (
        ("start", {}),
        ("override", {"baseline": "normal"}),
        ("release", {}),
        ("preview", {"action": "start"}),
    ):
        assert (await post(admin, action, **body))[1]["code"] == "rollback_off"
    assert (await get(admin, "/v1/status"))[1]["rollback"] is None
