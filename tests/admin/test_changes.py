"""Audit before effect: what is recorded, when, and what happens when it cannot be."""

import asyncio

import pytest

from proxy.core.roles import Role
from proxy.tasks import spawn

WHY = {"json": {"reason": "why"}}


def killed(admin):
    return admin.plane.policy.toggles.kill_switch


async def test_a_change_is_recorded_with_who_what_why_and_where_before_it_happens(admin):
    admin.trail.go.clear()
    asking = spawn(admin.ask("POST", "/v1/breakers/payment/open", role=Role.OPERATOR, **WHY), "ask")
    async with asyncio.timeout(10):
        await admin.trail.reached.wait()
    assert admin.plane.breakers["payment"].forced is None, "the record is under way, the effect has to wait"
    admin.trail.go.set()
    response = await asking
    assert admin.plane.breakers["payment"].forced == "open"
    (entry,) = admin.trail.entries
    assert (entry.action, entry.outcome, entry.actor, entry.role) == (
        "breaker.open",
        "accepted",
        "the-operator",
        "operator",
    )
    assert (entry.target, entry.before, entry.after) == ("payment", {"forced": None}, {"forced": "open"})
    assert (entry.reason, entry.address) == ("why", "127.0.0.1")
    assert entry.request_id == response.headers["X-Request-Id"]


async def test_what_cannot_be_recorded_does_not_happen(admin):
    admin.trail.gone = "fusebox.db: disk I/O error"
    response = await admin.ask("POST", "/v1/breakers/payment/open", role=Role.OPERATOR, **WHY)
    problem = await response.json()
    assert (response.status, problem["code"]) == (503, "store_unavailable")
    assert "disk I/O error" in problem["detail"]
    assert admin.plane.breakers["payment"].forced is None
    assert admin.trail.told() == [("breaker.open", "failed")], "in the spool: somebody tried"
    admin.trail.gone = ""
    assert (await admin.ask("POST", "/v1/breakers/payment/open", role=Role.OPERATOR, **WHY)).status == 200


async def test_a_change_that_fails_is_recorded_as_failed_beside_its_first_entry(admin, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("inside")

    monkeypatch.setattr(admin.services.breakers, "command", broken)
    response = await admin.ask("POST", "/v1/breakers/payment/open", role=Role.OPERATOR, **WHY)
    assert response.status == 500
    assert admin.trail.told() == [("breaker.open", "accepted"), ("breaker.open", "failed")]
    assert (admin.trail.entries[1].of, admin.trail.entries[1].reason) == (0, "inside")


async def test_a_breaker_nobody_has_is_neither_recorded_nor_moved(admin):
    await admin.ask("POST", "/v1/breakers/cf/open", role=Role.OPERATOR, **WHY)
    assert admin.trail.entries == []


async def test_the_kill_takes_effect_without_store_and_spool(admin, caplog):
    admin.trail.gone = admin.trail.full = "no space left on device"
    response = await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, **WHY)
    assert response.status == 200
    assert killed(admin)
    assert "in force, but the audit log does not know: no space left" in caplog.text


async def test_the_kill_is_recorded_after_its_effect_and_without_the_store(admin):
    admin.trail.gone = "no store"
    assert (await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, **WHY)).status == 200
    assert admin.trail.told() == [("kill.on", "done")]
    assert (admin.trail.entries[0].before, admin.trail.entries[0].after) == ({"kill": False}, {"kill": True})


async def test_the_kill_waits_for_no_other_change(admin):
    """A release hangs on a disk that does not answer; whoever throws the switch gets through."""
    await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, **WHY)
    admin.trail.reached.clear()
    admin.trail.stuck.clear()
    release = spawn(admin.ask("DELETE", "/v1/kill", role=Role.COMMANDER, **WHY), "release")
    async with asyncio.timeout(10):
        await admin.trail.reached.wait()
        assert (await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, **WHY)).status == 200
    assert killed(admin)
    admin.trail.stuck.set()
    await release


async def test_a_release_is_recorded_in_the_spool_before_its_effect(admin):
    await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, **WHY)
    admin.trail.gone = "no store"
    assert (await admin.ask("DELETE", "/v1/kill", role=Role.COMMANDER, **WHY)).status == 200
    assert admin.trail.told()[1:] == [("kill.off", "accepted")]


async def test_a_release_that_cannot_be_recorded_is_refused(admin):
    await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, **WHY)
    admin.trail.full = "no space left on device"
    response = await admin.ask("DELETE", "/v1/kill", role=Role.COMMANDER, **WHY)
    problem = await response.json()
    assert (response.status, problem["code"]) == (503, "kill_not_released")
    assert "no space left" in problem["detail"]
    assert killed(admin)


async def test_a_release_that_cannot_be_remembered_is_recorded_as_failed(admin):
    await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, **WHY)
    admin.kill_file.unlink()
    admin.kill_file.mkdir()
    assert (await admin.ask("DELETE", "/v1/kill", role=Role.COMMANDER, **WHY)).status == 503
    assert admin.trail.told()[1:] == [("kill.off", "accepted"), ("kill.off", "failed")]


@pytest.mark.parametrize(
    ("method", "path", "after"),
    [("PUT", "/v1/kill", {"kill": True}), ("POST", "/v1/breakers/payment/open", {"forced": "open"})],
)
async def test_a_change_that_changes_nothing_is_200_and_says_so_and_is_recorded(admin, method, path, after):
    first, second = [await admin.ask(method, path, role=Role.ADMIN, **WHY) for _ in range(2)]
    assert (first.status, first.headers["X-Fusebox-Changed"]) == (200, "true")
    assert (second.status, second.headers["X-Fusebox-Changed"]) == (200, "false")
    assert [it.after for it in admin.trail.entries] == [after, {**after, "changed": False}]


async def test_the_version_is_told_and_asked_for(admin):
    read = await admin.ask("GET", "/v1/kill", role=Role.VIEWER)
    thrown = await admin.ask(
        "PUT", "/v1/kill", role=Role.COMMANDER, headers={"If-Match": read.headers["ETag"]}, **WHY
    )
    assert thrown.status == 200
    assert thrown.headers["ETag"] != read.headers["ETag"]
    late = await admin.ask(
        "DELETE", "/v1/kill", role=Role.COMMANDER, headers={"If-Match": read.headers["ETag"]}, **WHY
    )
    problem = await late.json()
    assert (late.status, problem["code"]) == (412, "version_mismatch")
    assert f'"{problem["version"]}"' == thrown.headers["ETag"]
    assert killed(admin)
    assert admin.trail.told() == [("kill.on", "done")]
    for match in (f'"0", {thrown.headers["ETag"]}', "*"):
        released = await admin.ask(
            "DELETE", "/v1/kill", role=Role.COMMANDER, headers={"If-Match": match}, **WHY
        )
        assert released.status == 200


async def test_several_lines_of_if_match_are_one_list(admin):
    tag = (await admin.ask("GET", "/v1/kill", role=Role.VIEWER)).headers["ETag"]
    for match, status in ((tag, 200), ('"9"', 412)):
        headers = [("If-Match", '"0"'), ("If-Match", match)]
        headers.append(("Authorization", f"Bearer {admin.tokens[Role.COMMANDER]}"))
        async with admin.session.put("/v1/kill", headers=headers, **WHY) as answer:
            assert answer.status == status


@pytest.mark.parametrize("match", ["W/{0}", "{1}", "7", '""', "x" * 300])
async def test_a_tag_that_is_not_the_version_exactly_is_412(admin, match):
    tag = (await admin.ask("GET", "/v1/kill", role=Role.VIEWER)).headers["ETag"]
    headers = {"If-Match": match.format(tag, tag.strip('"'))}
    assert (await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, headers=headers, **WHY)).status == 412
    assert not killed(admin)
