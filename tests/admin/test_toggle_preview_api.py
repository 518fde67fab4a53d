"""Previews over HTTP: checked as the change would be, told to any viewer, and nothing happens."""

import pytest

from proxy.core.identity import Who
from proxy.core.inputs import Input
from proxy.core.roles import Role
from proxy.core.routing import SALT, bucket

USERS = [f"u{n}".encode() for n in range(40)]


@pytest.fixture
async def films(admin):
    """The admin face after forty users have asked for recommendations."""
    admin.recent.add(
        Input("films", Who(user, b"", b"", b""), user, bucket(user, SALT), 2, admin.clock.now - 20)
        for user in USERS
    )
    return admin


async def preview(admin, **body):
    return await admin.ask("POST", "/v1/toggles/preview", role=Role.VIEWER, json=body)


async def told(admin, **body):
    response = await preview(admin, **body)
    assert response.status == 200, await response.text()
    return await response.json()


async def test_it_tells_users_moves_loads_and_the_change_and_changes_nothing(films):
    before, version = films.plane.policy, films.toggles.version
    found = await told(films, toggles={"exposure_percent": 50, "disable_cf": True})
    exposed = sum(bucket(user, SALT) < 5000 for user in USERS)
    assert (found["users"], found["requests"], found["replayed"], found["span_s"]) == (40, 80, 40, 20)
    assert (found["exposed_before"], found["exposed_after"]) == (40, exposed)
    assert (found["changed"]["users"], found["changed"]["exposed"]) == (40, 40 - exposed)
    assert found["diff"] == {
        "disable_cf": {"before": False, "after": True},
        "exposure_percent": {"before": 100, "after": 50},
    }
    assert {it["upstream"]: (it["before_per_s"], it["after_per_s"]) for it in found["upstreams"]} == {
        "cf": (4.0, 0.0), "content": (4.0, exposed / 10),
    }  # fmt: skip
    assert (found["verdict"], found["says"], found["version"]) == ("fits", [], version)
    assert (films.plane.policy, films.toggles.version) == (before, version)
    assert films.trail.entries == []


async def test_a_baseline_and_a_version_can_be_tried_as_well(films):
    version = films.toggles.version
    await films.ask(
        "PATCH",
        "/v1/toggles",
        role=Role.OPERATOR,
        json={"toggles": {"policy_mode": "collab_only"}, "reason": "r"},
        headers={"If-Match": "*"},
    )
    back = await told(films, revert=version)
    assert back["diff"] == {"policy_mode": {"before": "collab_only", "after": None}}
    assert back["verdict"] == "unknown"
    assert "content would get 8 calls a second" in back["says"][0]
    emergency = await told(films, baseline="emergency")
    assert {move["after"]["policy"] for move in emergency["moves"]} == {"kill_switch"}
    assert emergency["diff"]["kill_switch"] == {"before": False, "after": True}
    assert not films.plane.policy.toggles.kill_switch


async def test_rules_can_be_tried(films):
    rules = [{"scope": {"region": ["eu"]}, "toggles": {"disable_cf": True}}]
    found = await told(films, rules=rules)
    assert found["changed"]["users"] == 0
    assert found["diff"]["rules"]["after"] == rules


@pytest.mark.parametrize(
    ("body", "status", "code", "says"),
    [
        ({}, 422, "toggles_refused", "either toggles and rules, or a baseline"),
        ({"baseline": "normal", "revert": 1}, 422, "toggles_refused", "either toggles and rules"),
        ({"baseline": "normal", "toggles": {"disable_cf": True}}, 422, "toggles_refused", "either"),
        ({"reason": "r", "toggles": {"disable_cf": True}}, 400, "bad_request", "body.reason: is not known"),
        ({"revert": 0}, 400, "bad_request", "body.revert"),
        ({"baseline": "nice"}, 404, "unknown_baseline", "no baseline is named 'nice'"),
        ({"revert": 77}, 404, "unknown_version", "no version 77"),
        ({"toggles": {"exposure": 1}}, 422, "toggles_refused", "toggles.exposure: unknown toggle"),
        ({"toggles": {"disable_cf": True, "policy_mode": "collab_only", "alpha_override": 2}}, 422,
         "toggles_refused", "toggles.alpha_override"),
        ({"rules": [{}]}, 422, "toggles_refused", "rules.0.toggles"),
    ],
)  # fmt: skip
async def test_what_a_change_would_be_refused_for_is_refused(films, body, status, code, says):
    response = await preview(films, **body)
    problem = await response.json()
    assert (response.status, problem["code"]) == (status, code)
    assert says in problem["detail"]


async def test_it_is_refused_with_the_very_words_of_the_change(films):
    toggles = {"disable_cf": True, "policy_mode": "collab_only", "alpha_override": 2, "nonsense": 1}
    change = await films.ask(
        "PATCH",
        "/v1/toggles",
        role=Role.OPERATOR,
        json={"toggles": toggles, "reason": "r"},
        headers={"If-Match": "*"},
    )
    refused = await preview(films, toggles=toggles)
    assert (await refused.json())["errors"] == (await change.json())["errors"]


async def test_without_requests_it_is_unknown(admin):
    found = await told(admin, toggles={"disable_cf": True})
    assert (found["verdict"], found["requests"]) == ("unknown", 0)
