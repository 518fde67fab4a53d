"""Reading the audit log over the API."""

import asyncio
import base64

import pytest

from proxy.core.roles import Role
from proxy.ports.records import AuditFilter
from proxy.tasks import spawn


async def test_entries_are_found_by_all_that_they_say(admin):
    asked = {
        "action": "breaker.",
        "actor": "ann",
        "target": "payment",
        "outcome": "failed",
        "request_id": "r",
        "key_id": "k",
        "subject": "u007",
        "since": "2026-01-31T12:00:00+02:00",
        "until": "2026-02-01T00:00:00Z",
        "cursor": "12",
        "limit": "5",
    }
    response = await admin.ask("GET", "/v1/audit", role=Role.COMMANDER, params=asked)
    assert (response.status, (await response.json())["next"]) == (200, "7")
    ((wanted, how),) = admin.trail.asked
    assert wanted == AuditFilter(
        action="breaker.",
        actor="ann",
        target="payment",
        outcome="failed",
        request_id="r",
        key_id="k",
        since="2026-01-31T10:00:00.000000Z",
        until="2026-02-01T00:00:00.000000Z",
    )
    assert how == {"subject": "u007", "before": 12, "limit": 5, "opened": True}


@pytest.mark.parametrize("role", Role, ids=lambda role: role.label)
async def test_sealed_fields_are_opened_for_commanders_and_above(admin, role):
    await admin.ask("GET", "/v1/audit", role=role)
    ((wanted, how),) = admin.trail.asked
    assert wanted == AuditFilter()
    assert how == {"subject": "", "before": None, "limit": 50, "opened": role >= Role.COMMANDER}


async def test_who_may_not_open_what_is_sealed_may_not_look_for_a_subject(admin):
    """Or the answer would tell whether somebody is in the log."""
    response = await admin.ask("GET", "/v1/audit?subject=u007", role=Role.OPERATOR)
    assert (response.status, (await response.json())["code"]) == (403, "forbidden")
    assert admin.trail.asked == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "limit=1_0",
        "limit=1.0",
        "limit=+1",
        "limit=",
        "cursor=-1",
        "cursor=x",
        "since=yesterday",
        "since=2026-01-31T12:00:00",
        "until=0001-01-01T00:00:00%2B23:00",
        "outcome=perhaps",
        "actor=%00",
        "actor=" + "x" * 257,
        "action=a&action=b",
        "nonsense=1",
    ],
)
async def test_a_query_that_is_not_understood_is_400_naming_the_parameter(admin, query):
    response = await admin.ask("GET", f"/v1/audit?{query}", role=Role.VIEWER)
    problem = await response.json()
    assert (response.status, problem["code"]) == (400, "bad_request")
    assert [it["at"] for it in problem["errors"]] == [f"query.{query.partition('=')[0]}"]
    assert admin.trail.asked == []


@pytest.mark.parametrize(
    "asked", ["0359-02-10T07:25:18Z", "1969-12-31T23:59:59Z", "1970-01-01T01:00:00+01:00"]
)
async def test_a_moment_before_there_were_entries_is_the_earliest_there_is(admin, asked):
    """Labels sort as text, so each has to have the same width."""
    await admin.ask("GET", "/v1/audit", role=Role.VIEWER, params={"since": asked})
    ((wanted, _),) = admin.trail.asked
    assert wanted.since == "1970-01-01T00:00:00.000000Z"


async def test_every_fault_of_a_request_is_told_at_once(admin):
    response = await admin.ask("GET", "/v1/audit?limit=x&nonsense=1&since=y", role=Role.VIEWER)
    places = {it["at"] for it in (await response.json())["errors"]}
    assert places == {"query.limit", "query.nonsense", "query.since"}


async def test_one_verification_at_a_time(admin):
    admin.trail.go.clear()
    first = spawn(admin.ask("GET", "/v1/audit/verify", role=Role.ADMIN), "verify")
    async with asyncio.timeout(10):
        await admin.trail.reached.wait()
    second = await admin.ask("GET", "/v1/audit/verify", role=Role.ADMIN)
    assert (second.status, (await second.json())["code"]) == (409, "verify_running")
    admin.trail.go.set()
    assert await (await first).json() == admin.trail.report
    assert (await admin.ask("GET", "/v1/audit/verify", role=Role.ADMIN)).status == 200


async def test_the_newest_checkpoint_as_json_and_as_text(admin):
    newest = admin.trail.newest
    as_json = await admin.ask("GET", "/v1/audit/checkpoint", role=Role.VIEWER)
    assert await as_json.json() == {
        "size": 2,
        "root": base64.b64encode(newest.root).decode(),
        "at": newest.at,
        "note": newest.note,
    }
    headers = {"Accept": "text/plain"}
    text = await admin.ask("GET", "/v1/audit/checkpoint", role=Role.VIEWER, headers=headers)
    assert (text.content_type, await text.text()) == ("text/plain", newest.note)


async def test_before_the_first_checkpoint_there_is_none(admin):
    admin.trail.newest = None
    response = await admin.ask("GET", "/v1/audit/checkpoint", role=Role.VIEWER)
    assert (response.status, (await response.json())["code"]) == (404, "no_checkpoint")
