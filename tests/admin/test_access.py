import pytest

from proxy.admin.access import ADDRESSES, ATTEMPTS, WINDOW_S, FailedAttempts
from proxy.admin.endpoints import ENDPOINTS
from proxy.core.roles import Role

GUARDED = [endpoint for endpoint in ENDPOINTS if endpoint.role is not None]
NAMES = [f"{endpoint.method} {endpoint.path}" for endpoint in GUARDED]


def concrete(endpoint):
    return endpoint.path.replace("{name}", "payment").replace("{action:open|close|auto}", "open")


@pytest.mark.parametrize("endpoint", GUARDED, ids=NAMES)
async def test_without_a_token_every_guarded_endpoint_is_401(admin, endpoint):
    response = await admin.ask(endpoint.method, concrete(endpoint), json={"reason": "test"})
    problem = await response.json()
    assert (response.status, problem["code"]) == (401, "unauthorized")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert "fusebox token create" in problem["detail"]
    assert admin.plane.policy.toggles.kill_switch is False
    assert admin.plane.breakers["payment"].forced is None


@pytest.mark.parametrize("endpoint", GUARDED, ids=NAMES)
async def test_each_role_reaches_exactly_what_the_table_grants(admin, endpoint):
    for role in Role:
        body = {} if endpoint.method == "GET" else {"json": {"reason": "test"}}
        response = await admin.ask(endpoint.method, concrete(endpoint), role=role, **body)
        assert response.status == (200 if role >= endpoint.role else 403), role
        if response.status == 403:
            problem = await response.json()
            assert problem["code"] == "forbidden"
            assert endpoint.role.label in problem["detail"]


def test_the_table_keeps_the_roles_of_the_contract():
    roles = {(endpoint.method, endpoint.path): endpoint.role for endpoint in ENDPOINTS}
    assert roles["GET", "/livez"] is roles["GET", "/readyz"] is roles["GET", "/metrics"] is None
    assert (
        roles["GET", "/v1/status"] == roles["GET", "/v1/kill"] == roles["GET", "/v1/breakers"] == Role.VIEWER
    )
    assert roles["POST", "/v1/breakers/{name}/{action:open|close|auto}"] == Role.OPERATOR
    assert roles["PUT", "/v1/kill"] == roles["DELETE", "/v1/kill"] == Role.COMMANDER


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


def test_a_new_window_allows_as_many_attempts_again():
    now = 0.0
    failed = FailedAttempts(lambda: now)
    for begin in (0.0, WINDOW_S, 5 * WINDOW_S):
        now = begin
        assert [failed.count("a") for _ in range(ATTEMPTS + 1)] == [0] * ATTEMPTS + [WINDOW_S]


def test_addresses_are_counted_apart_and_only_so_many_are_remembered():
    now = 0.0
    failed = FailedAttempts(lambda: now)
    for _ in range(ATTEMPTS):
        assert failed.count("a") == 0
    assert failed.count("a") == WINDOW_S
    assert failed.count("b") == 0
    for number in range(ADDRESSES):
        failed.count(f"n{number}")
    assert len(failed._by_address) == ADDRESSES
    assert failed.count("a") == 0
