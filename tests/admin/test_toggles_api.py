"""Toggles over HTTP: who may do what, every refusal with its reasons, the kill switch before all else."""

import asyncio

import orjson
import pytest

from proxy.core.roles import Role
from proxy.tasks import spawn

WHY = {"reason": "slow answers"}


async def change(admin, toggles=None, *, version=None, role=Role.OPERATOR, headers=None, **more):
    if version is None:
        version = admin.toggles.version
    given = {"If-Match": f'"{version}"'} if headers is None else headers
    body = {"toggles": toggles or {}, **WHY, **more}
    return await admin.ask("PATCH", "/v1/toggles", role=role, json=body, headers=given)


async def problem(response):
    said = await response.json()
    return response.status, said["code"], said["detail"]


async def test_what_is_in_force_is_told_with_its_version(admin):
    response = await admin.ask("GET", "/v1/toggles", role=Role.VIEWER)
    said = await response.json()
    assert response.headers["ETag"] == '"1"'
    assert (said["version"], said["baseline"], said["kill"], said["rules"], said["reverts"]) == (
        1, "normal", False, [], [],
    )  # fmt: skip
    assert len(said["toggles"]) == 12
    assert said["flags"] == {"billing": True}


async def test_a_change_is_answered_with_what_holds_then(admin):
    rules = [{"scope": {"region": ["eu"]}, "toggles": {"disable_cf": True}}]
    response = await change(admin, {"exposure_percent": 50}, rules=rules, ttl_s=600)
    said = await response.json()
    assert (response.status, response.headers["ETag"], said["version"]) == (200, '"2"', 2)
    assert (said["toggles"]["exposure_percent"], said["rules"]) == (50, rules)
    assert [(it["version"], it["names"]) for it in said["reverts"]] == [(2, ["exposure_percent", "rules"])]
    assert admin.plane.policy.toggles.exposure_percent == 50
    (entry,) = admin.trail.entries
    assert (entry.action, entry.actor, entry.reason) == ("toggles.patch", "the-operator", "slow answers")
    assert entry.before["exposure_percent"] == 100
    assert entry.after["exposure_percent"] == 50


async def test_if_match_is_needed_and_has_to_be_the_version_in_force(admin):
    refused = await change(admin, {"disable_cf": True}, headers={})
    assert await problem(refused) == (
        428,
        "precondition_required",
        'Say which version the change was decided on: If-Match: "1" is the present one.',
    )
    stale = await change(admin, {"disable_cf": True}, version=7)
    assert (await problem(stale))[:2] == (412, "version_mismatch")
    assert (await stale.json())["version"] == 1
    assert (await change(admin, {"disable_cf": True}, headers={"If-Match": "*"})).status == 200


async def test_of_two_with_the_same_if_match_exactly_one_wins(admin):
    done = await asyncio.gather(
        *(change(admin, {"exposure_percent": share}, version=1) for share in (10, 20, 30))
    )
    assert sorted(it.status for it in done) == [200, 412, 412]
    assert admin.toggles.version == 2


async def test_a_kill_between_looking_and_changing_is_noticed(admin):
    await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, json=WHY)
    assert (await problem(await change(admin, {"disable_cf": True}, version=1)))[0] == 412


async def test_every_reason_is_told_at_once(admin):
    response = await change(
        admin,
        {"exposure_percent": 12.345, "policy_mode": "colab", "expose": 1},
        rules=[{"scope": {"region": []}, "toggles": {"kill_switch": True}}],
    )
    said = await response.json()
    assert (response.status, said["code"]) == (422, "toggles_refused")
    assert {it["at"] for it in said["errors"]} == {
        "toggles.exposure_percent",
        "toggles.policy_mode",
        "toggles.expose",
        "rules.0.toggles.kill_switch",
    }
    assert "there are: alpha_override" in said["detail"]
    assert admin.trail.entries == []
    assert admin.toggles.version == 1


async def test_contradictions_and_nothing_at_all_are_refused(admin):
    said = await problem(await change(admin, {"policy_mode": "collab_only", "disable_cf": True}))
    assert said[:2] == (422, "toggles_refused")
    assert "collab_only asks cf alone" in said[2]
    assert "changes nothing" in (await problem(await change(admin)))[2]


@pytest.mark.parametrize("ttl_s", [0.5, 7 * 24 * 3600 + 1])
async def test_a_time_limit_out_of_range_is_refused(admin, ttl_s):
    assert (await problem(await change(admin, {"disable_cf": True}, ttl_s=ttl_s)))[:2] == (400, "bad_request")


async def test_a_toggle_named_twice_is_refused(admin):
    body = b'{"reason": "r", "toggles": {"exposure_percent": 50, "exposure_percent": 20}}'
    response = await admin.ask(
        "PATCH", "/v1/toggles", role=Role.OPERATOR, data=body, headers={"If-Match": "*"}
    )
    assert "names exposure_percent more than once" in (await problem(response))[2]
    assert admin.toggles.version == 1


async def test_baselines_by_name(admin):
    response = await admin.ask("POST", "/v1/toggles/baselines/degraded", role=Role.OPERATOR, json=WHY)
    assert ((await response.json())["baseline"], response.status) == ("degraded", 200)
    response = await admin.ask("POST", "/v1/toggles/baselines/degrated", role=Role.OPERATOR, json=WHY)
    assert (await problem(response))[:2] == (404, "unknown_baseline")


async def test_history_by_page_and_a_revert(admin):
    await change(admin, {"exposure_percent": 50}, ttl_s=600)
    await admin.ask("PATCH", "/v1/flags", role=Role.OPERATOR, json=WHY | {"flags": {"billing": False}})
    page = await (await admin.ask("GET", "/v1/toggles/history?limit=2", role=Role.VIEWER)).json()
    assert [(it["version"], it["by"], it["kind"]) for it in page["versions"]] == [
        (3, "the-operator", "flags"),
        (2, "the-operator", "patch"),
    ]
    assert page["versions"][0]["diff"] == {"flags.billing": {"before": True, "after": False}}
    assert [it["expires_at"] is None for it in page["versions"]] == [True, False]
    rest = await (
        await admin.ask("GET", f"/v1/toggles/history?cursor={page['next']}", role=Role.VIEWER)
    ).json()
    assert ([it["kind"] for it in rest["versions"]], rest["next"]) == (["file"], None)
    response = await admin.ask("POST", "/v1/toggles/revert/1", role=Role.OPERATOR, json=WHY)
    said = await response.json()
    assert (said["version"], said["baseline"], said["flags"], said["reverts"]) == (
        4, "normal", {"billing": True}, [],
    )  # fmt: skip
    response = await admin.ask("POST", "/v1/toggles/revert/99", role=Role.OPERATOR, json=WHY)
    assert (await problem(response))[:2] == (404, "unknown_version")


async def test_flags_are_read_and_switched(admin):
    body = WHY | {"flags": {"billing": False}, "ttl_s": 60}
    response = await admin.ask("PATCH", "/v1/flags", role=Role.OPERATOR, json=body)
    said = await response.json()
    assert (said["flags"], said["version"], said["reverts"][0]["names"]) == (
        {"billing": False}, 2, ["flags.billing"],
    )  # fmt: skip
    assert await (await admin.ask("GET", "/v1/flags", role=Role.VIEWER)).json() == said
    unknown = await admin.ask(
        "PATCH", "/v1/flags", role=Role.OPERATOR, json=WHY | {"flags": {"biling": False}}
    )
    assert (await problem(unknown))[1:] == (
        "toggles_refused",
        "flags.biling: no route has this flag (there are: billing)",
    )


class TestKill:
    async def test_it_needs_a_commander_where_it_changes_something(self, admin):
        for asked in (
            change(admin, {"kill_switch": True, "disable_cf": True}),
            admin.ask("POST", "/v1/toggles/baselines/emergency", role=Role.OPERATOR, json=WHY),
        ):
            assert (await problem(await asked))[:2] == (403, "forbidden")
        assert (await change(admin, {"kill_switch": False, "exposure_percent": 50})).status == 200
        assert admin.plane.policy.toggles.kill_switch is False

    async def test_an_operator_releases_it_in_no_way(self, admin):
        await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, json=WHY)
        for asked in (
            change(admin, {"kill_switch": False}),
            admin.ask("POST", "/v1/toggles/baselines/normal", role=Role.OPERATOR, json=WHY),
            admin.ask("POST", "/v1/toggles/revert/1", role=Role.OPERATOR, json=WHY),
        ):
            status, code, detail = await problem(await asked)
            assert (status, code) == (403, "forbidden")
            assert "release the kill switch" in detail
        assert admin.plane.policy.toggles.kill_switch is True
        assert (await change(admin, {"exposure_percent": 50})).status == 200

    async def test_alone_it_waits_for_no_store(self, admin):
        admin.trail.gone = admin.store.gone = "the store is gone"
        response = await change(admin, {"kill_switch": True}, role=Role.COMMANDER)
        assert (response.status, (await response.json())["kill"]) == (200, True)
        assert admin.trail.told() == [("kill.on", "done")]
        assert orjson.loads(admin.kill_file.read_bytes())["kill"] is True

    async def test_it_is_thrown_though_the_rest_cannot_be_kept(self, admin):
        admin.trail.gone = admin.store.gone = "the store is gone"
        asked = admin.ask("POST", "/v1/toggles/baselines/emergency", role=Role.COMMANDER, json=WHY)
        status, code, detail = await problem(await asked)
        assert (status, code) == (503, "store_unavailable")
        assert detail == "The kill switch is ON, as version 2; the rest was refused: the store is gone"
        assert admin.plane.policy.toggles.kill_switch is True
        assert admin.plane.policy.toggles.exposure_percent == 100

    @pytest.mark.parametrize(
        ("headers", "status"), [({}, 428), ({"If-Match": '"9"'}, 412), ({"If-Match": '"1"'}, 422)]
    )
    async def test_it_is_thrown_whatever_is_wrong_with_the_rest(self, admin, headers, status):
        body = {"kill_switch": True, "exposure_percent": 101}
        response = await change(admin, body, role=Role.COMMANDER, headers=headers)
        assert response.status == status
        assert (await response.json())["detail"].startswith("The kill switch is ON, as version 2; the rest")
        assert admin.plane.policy.toggles.kill_switch is True

    async def test_its_own_throw_is_no_change_by_somebody_else(self, admin):
        response = await change(admin, {"kill_switch": True, "disable_cf": True}, role=Role.COMMANDER)
        said = await response.json()
        assert (response.status, said["version"], said["kill"], said["toggles"]["disable_cf"]) == (
            200, 3, True, True,
        )  # fmt: skip

    async def test_it_does_not_wait_for_a_change_that_hangs_in_the_store(self, admin):
        admin.trail.go.clear()
        hanging = spawn(change(admin, {"exposure_percent": 50}, headers={"If-Match": "*"}), "hangs")
        await admin.trail.reached.wait()
        throwing = spawn(
            admin.ask("POST", "/v1/toggles/baselines/emergency", role=Role.COMMANDER, json=WHY), "throws"
        )
        await admin.trail.killed.wait()
        assert admin.plane.policy.toggles.kill_switch
        admin.trail.go.set()
        assert ((await hanging).status, (await throwing).status) == (200, 200)
        assert admin.toggles.read().baseline == "emergency"

    async def test_a_release_comes_after_the_rest(self, admin):
        await admin.ask("POST", "/v1/toggles/baselines/emergency", role=Role.COMMANDER, json=WHY)
        response = await change(admin, {"kill_switch": False, "exposure_percent": 5}, role=Role.COMMANDER)
        said = await response.json()
        assert (said["kill"], said["toggles"]["exposure_percent"], said["baseline"]) == (False, 5, None)

    async def test_a_release_that_a_restart_would_not_know_of_says_both(self, admin):
        await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, json=WHY)
        admin.kill_file.unlink()
        admin.kill_file.mkdir()
        response = await change(admin, {"kill_switch": False, "exposure_percent": 5}, role=Role.COMMANDER)
        status, code, detail = await problem(response)
        assert (status, code) == (503, "kill_not_released")
        assert "All else is in force, as version 3" in detail
        assert (admin.plane.policy.toggles.kill_switch, admin.plane.policy.toggles.exposure_percent) == (
            True,
            5,
        )


async def test_ten_thousand_rules_have_room(admin):
    rules = [{"scope": {"region": [f"r{n}"]}, "toggles": {"exposure_percent": 50}} for n in range(10_000)]
    response = await change(admin, rules=rules)
    assert (response.status, len((await response.json())["rules"])) == (200, 10_000)
    page = await (await admin.ask("GET", "/v1/toggles/history?limit=1", role=Role.VIEWER)).json()
    assert page["versions"][0]["diff"] == {"rules": {"before": 0, "after": 10_000}}
    big = await admin.ask("PATCH", "/v1/flags", role=Role.OPERATOR, data=b" " * (64 * 1024 + 1))
    assert big.status == 413
