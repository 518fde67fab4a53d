from types import SimpleNamespace

import pytest
from face import AT, Admin

from proxy.admin.access import ADDRESSES, ATTEMPTS, NOTED, RECORDED, WINDOW_S, Refusals
from proxy.admin.endpoints import ENDPOINTS
from proxy.core.audit import Entry, Outcome
from proxy.core.roles import Role
from proxy.core.toggles import Toggles

GUARDED = [endpoint for endpoint in ENDPOINTS if endpoint.role is not None]
NAMES = [f"{endpoint.method} {endpoint.path}" for endpoint in GUARDED]


MORE = {
    ("PATCH", "/v1/toggles"): {"toggles": {"exposure_percent": 50}},
    ("PATCH", "/v1/flags"): {"flags": {"billing": False}},
    ("POST", "/v1/toggles/preview"): {"baseline": "degraded"},
    ("POST", "/v1/rollback/override"): {"baseline": "degraded"},
    ("POST", "/v1/rollback/preview"): {"action": "start"},
    ("POST", "/v1/drills"): {"name": "error"},
}


def concrete(endpoint):
    name = "degraded" if "baselines" in endpoint.path else "payment"
    return endpoint.path.format(name=name, action="open", version=1)


async def ask(admin, endpoint, **how):
    if endpoint.method == "GET":
        return await admin.ask(endpoint.method, concrete(endpoint), **how)
    body = {"reason": "test"} if endpoint.signature.change else {}
    body |= MORE.get((endpoint.method, endpoint.path), {})
    headers = {"If-Match": "*"} if endpoint.required else {}
    return await admin.ask(endpoint.method, concrete(endpoint), json=body, headers=headers, **how)


def nothing_has_happened(admin):
    assert admin.plane.policy.toggles == Toggles()
    assert admin.plane.breakers["payment"].forced is None
    assert not [it for it in admin.trail.entries if it.outcome != "refused"]
    return True


@pytest.mark.parametrize("endpoint", GUARDED, ids=NAMES)
async def test_whoever_has_no_valid_token_is_401_everywhere(admin, endpoint):
    """None, garbage, an expired and a revoked one look alike from outside; the log tells them apart."""
    gone, old = admin.make("gone"), admin.make("old", ttl_s=5)
    admin.services.tokens.revoke("gone")
    admin.wall += 5
    told = []
    for token in (None, "garbage", gone, old):
        response = await ask(admin, endpoint, token=token)
        problem = await response.json()
        assert (response.status, problem["code"]) == (401, "unauthorized")
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert "fusebox token create" in problem["detail"]
        told.append(problem["detail"])
    assert told[1] == told[2] == told[3] != told[0]
    assert nothing_has_happened(admin)
    assert [(it.action, it.target, it.reason) for it in admin.trail.entries] == [
        ("token.refused", "", "missing"),
        ("token.refused", "", "unknown"),
        ("token.refused", "gone", "revoked"),
    ]


@pytest.mark.parametrize("endpoint", GUARDED, ids=NAMES)
@pytest.mark.parametrize("role", Role, ids=lambda role: role.label)
async def test_each_role_reaches_exactly_what_the_table_grants(admin, endpoint, role):
    if endpoint.path == "/v1/rollback/release":  # there has to be something
        admin.rollback.engine.start(admin.clock(), "somebody", "test")
    response = await ask(admin, endpoint, role=role)
    assert response.status == (200 if role >= endpoint.role else 403)
    if response.status == 403:
        problem = await response.json()
        assert problem["code"] == "forbidden"
        assert endpoint.role.label in problem["detail"]
        (entry,) = admin.trail.entries
        assert (entry.action, entry.actor, entry.role) == ("access.refused", f"the-{role.label}", role.label)
        assert entry.target == f"{endpoint.method} {concrete(endpoint)}"
        assert nothing_has_happened(admin)


def test_the_table_keeps_the_roles_of_the_contract():
    roles = {(endpoint.method, endpoint.path): endpoint.role for endpoint in ENDPOINTS}
    assert roles["GET", "/livez"] is roles["GET", "/readyz"] is roles["GET", "/metrics"] is None
    assert roles["GET", "/v1/openapi.json"] is None, "it tells no secret"
    assert (
        roles["GET", "/v1/status"] == roles["GET", "/v1/kill"] == roles["GET", "/v1/breakers"] == Role.VIEWER
    )
    assert roles["POST", "/v1/breakers/{name}/{action}"] == Role.OPERATOR
    assert roles["PUT", "/v1/kill"] == roles["DELETE", "/v1/kill"] == Role.COMMANDER
    assert roles["GET", "/v1/audit"] == roles["GET", "/v1/audit/checkpoint"] == Role.VIEWER
    assert roles["GET", "/v1/audit/verify"] == Role.ADMIN
    assert roles["GET", "/v1/toggles"] == roles["GET", "/v1/toggles/history"] == Role.VIEWER
    assert roles["GET", "/v1/flags"] == Role.VIEWER
    assert roles["PATCH", "/v1/toggles"] == roles["PATCH", "/v1/flags"] == Role.OPERATOR
    assert roles["POST", "/v1/toggles/baselines/{name}"] == Role.OPERATOR
    assert roles["POST", "/v1/toggles/revert/{version}"] == Role.OPERATOR
    assert roles["GET", "/v1/rollback"] == roles["GET", "/v1/triggers"] == Role.VIEWER
    assert roles["POST", "/v1/rollback/preview"] == Role.VIEWER
    assert (roles["GET", "/v1/drills"], roles["POST", "/v1/drills"]) == (Role.VIEWER, Role.OPERATOR)
    assert {roles["POST", f"/v1/rollback/{it}"] for it in ("start", "override", "release")} == {Role.OPERATOR}


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic {token}",
        "{token}",
        "Bearer {token}x",
        "Bearer x {token}",
    ],
)
async def test_anything_but_the_exact_token_is_refused(admin, header):
    value = header.format(token=admin.tokens[Role.ADMIN])
    response = await admin.ask("GET", "/v1/status", headers={"Authorization": value})
    assert response.status == 401


async def test_the_scheme_is_read_in_any_case(admin):
    value = f"bEARER {admin.tokens[Role.VIEWER]}"
    assert (await admin.ask("GET", "/v1/status", headers={"Authorization": value})).status == 200


async def test_failed_attempts_are_limited_and_a_valid_token_still_gets_in(admin):
    for _ in range(ATTEMPTS):
        assert (await admin.ask("GET", "/v1/kill", token="wrong")).status == 401
    admin.clock.now += 15.5
    limited = await admin.ask("GET", "/v1/kill", token="wrong")
    assert (limited.status, (await limited.json())["code"]) == (429, "too_many_attempts")
    assert limited.headers["Retry-After"] == "45"
    assert (await admin.ask("GET", "/v1/kill", role=Role.VIEWER)).status == 200
    admin.clock.now += 45
    assert (await admin.ask("GET", "/v1/kill", token="wrong")).status == 401


async def test_a_token_never_reaches_the_log(admin, caplog):
    secret = "fbx_not-anybodys-token"
    await admin.ask("GET", "/v1/status", token=secret)
    await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, json={"reason": "drill"})
    assert "token refused" in caplog.text
    told = " ".join(str(vars(record)) for record in caplog.records)
    assert secret not in told
    assert admin.tokens[Role.COMMANDER] not in told


async def test_a_tokens_file_that_never_could_be_read_is_503_and_the_open_endpoints_go_on(admin):
    admin.tokens_file.write_text("no json")
    response = await admin.ask("GET", "/v1/status", role=Role.ADMIN)
    assert (response.status, (await response.json())["code"]) == (503, "store_unavailable")
    assert (await admin.ask("GET", "/readyz")).status == 200


class Noted:
    """Refusals at a time that the test says, and what was recorded of them."""

    def __init__(self):
        self.now = 0.0
        self.entries = []
        self.refusals = Refusals(lambda: self.now, self.entries.append)

    def count(self, who="a"):
        entry = Entry(action="token.refused", outcome=Outcome.REFUSED, at=AT, address=who)
        return self.refusals.count(who, entry)


def test_a_new_window_allows_as_many_attempts_again():
    noted = Noted()
    for begin in (0.0, WINDOW_S, 5 * WINDOW_S):
        noted.now = begin
        assert [noted.count() for _ in range(ATTEMPTS + 1)] == [0] * ATTEMPTS + [WINDOW_S]


def test_addresses_are_counted_apart_and_only_so_many_are_remembered():
    noted = Noted()
    for _ in range(ATTEMPTS):
        assert noted.count("a") == 0
    assert noted.count("a") == WINDOW_S
    assert noted.count("b") == 0
    for number in range(ADDRESSES):
        noted.count(f"n{number}")
    assert len(noted.refusals._windows) == ADDRESSES
    assert noted.count("a") == 0


def test_the_first_refusals_are_recorded_one_by_one_and_the_others_as_one_with_their_number():
    noted = Noted()
    for _ in range(1000):
        noted.count("a")
    noted.count("b")
    assert [it.address for it in noted.entries] == ["a"] * NOTED + ["b"]
    noted.now += WINDOW_S
    noted.count("b")
    over = noted.entries[NOTED + 1]
    assert (over.address, over.after) == ("a", {"attempts": 1000 - NOTED})
    assert len(noted.entries) == NOTED + 3, "and nothing of b, whose one refusal is told"


def test_knocking_from_many_addresses_does_not_fill_the_audit_log():
    noted = Noted()
    for number in range(RECORDED + 500):
        noted.count(f"n{number}")
    assert len(noted.entries) == RECORDED
    noted.now += WINDOW_S
    noted.count("a")
    assert [(it.address, it.after) for it in noted.entries[RECORDED:]] == [
        ("", {"attempts": 500}),
        ("a", None),
    ]


def test_what_was_counted_is_told_at_the_end():
    noted = Noted()
    for _ in range(NOTED + 2):
        noted.count("a")
    noted.refusals.close()
    noted.refusals.close()
    assert [it.after for it in noted.entries[NOTED:]] == [{"attempts": 2}]


async def test_a_spool_that_is_full_lets_nobody_in_and_keeps_nobody_out(admin):
    admin.trail.full = "the spool is full"
    assert (await admin.ask("GET", "/v1/status", token="wrong")).status == 401
    assert (await admin.ask("PUT", "/v1/kill", role=Role.VIEWER, json={"reason": "x"})).status == 403
    assert (await admin.ask("GET", "/v1/status", role=Role.VIEWER)).status == 200


async def test_uses_of_tokens_are_told_by_name(tmp_path):
    used = []
    admin = Admin(tmp_path, uses=SimpleNamespace(used=used.append))
    await admin.start()
    await admin.ask("GET", "/v1/status", role=Role.VIEWER)
    await admin.ask("GET", "/v1/status", token="wrong")
    await admin.stop()
    assert used == ["the-viewer"]
