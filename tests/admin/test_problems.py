import asyncio

import pytest

from proxy.core.roles import Role

MEMBERS = {"type", "title", "status", "detail", "code", "request_id"}


async def problem_of(response, status, code):
    assert response.status == status
    assert response.content_type == "application/problem+json"
    problem = await response.json()
    assert problem.keys() - {"errors"} == MEMBERS
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"] == f"urn:fusebox:problem:{code}"
    assert problem["request_id"] == response.headers["X-Request-Id"]
    return problem


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/nothing", "/livez/", "/v1/breakers/payment/explode", "/%00"]
)
async def test_an_unknown_path_is_a_404_problem(admin, path):
    await problem_of(await admin.ask("POST", path, role=Role.ADMIN), 404, "not_found")


async def test_a_method_that_is_not_offered_is_a_405_problem_with_allow(admin):
    response = await admin.ask("POST", "/v1/kill", role=Role.ADMIN, json={"reason": "x"})
    await problem_of(response, 405, "method_not_allowed")
    assert response.headers["Allow"] == "DELETE, GET, HEAD, PUT"


async def test_a_body_over_64_kib_is_a_413_problem_and_changes_nothing(admin):
    body = b'{"reason": "' + b"x" * 70_000 + b'"}'
    response = await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, data=body)
    await problem_of(response, 413, "body_too_large")
    assert admin.plane.policy.toggles.kill_switch is False


async def test_a_body_that_does_not_arrive_is_a_408_problem(admin, monkeypatch):
    monkeypatch.setattr("proxy.admin.dispatch.BODY_S", 0.01)
    reader, writer = await asyncio.open_connection(admin.host, admin.port)
    token = admin.tokens[Role.COMMANDER]
    writer.write(
        f"PUT /v1/kill HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        "Content-Length: 20\r\n\r\n{".encode()
    )
    assert (await reader.readline()).startswith(b"HTTP/1.1 408")
    writer.close()
    await writer.wait_closed()


async def test_an_expectation_that_cannot_be_met_is_a_417_problem(admin):
    """aiohttp asks about it before any middleware, in words of its own."""
    answer = await admin.ask("PUT", "/v1/kill", headers={"Expect": "a miracle"}, json={"reason": "x"})
    await problem_of(answer, 417, "expectation_failed")


async def test_who_expects_100_continue_hears_it_and_sends_the_body(admin):
    answer = await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, json={"reason": "x"}, expect100=True)
    assert answer.status == 200
    assert admin.plane.policy.toggles.kill_switch is True


async def test_an_accident_is_a_500_problem_that_shows_nothing_of_the_inside(admin, monkeypatch, caplog):
    def broken():
        raise ZeroDivisionError("a secret of the inside")

    monkeypatch.setattr(admin.board, "read", broken)
    response = await admin.ask("GET", "/v1/status", role=Role.VIEWER)
    await problem_of(response, 500, "internal_error")
    text = await response.text()
    assert "secret" not in text
    assert "Traceback" not in text
    failed = next(record for record in caplog.records if record.message == "admin request failed")
    assert failed.exc_info[0] is ZeroDivisionError
    assert failed.request_id == response.headers["X-Request-Id"]


async def test_tokens_nobody_can_read_are_told_in_words_without_a_stack(admin, caplog):
    admin.tokens_file.write_text("{")
    response = await admin.ask("GET", "/v1/status", role=Role.VIEWER)
    await problem_of(response, 503, "store_unavailable")
    failed = next(record for record in caplog.records if record.message.startswith("store unavailable: "))
    assert "tokens.json" in failed.message
    assert failed.exc_info is None
    assert failed.request_id == response.headers["X-Request-Id"]


async def test_no_answer_opens_the_face_to_other_origins_or_names_its_make(admin):
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"}
    preflight = await admin.ask("OPTIONS", "/v1/kill", headers=asked)
    assert preflight.status == 405
    for response in (preflight, await admin.ask("GET", "/livez", headers=asked)):
        assert not [name for name in response.headers if name.lower().startswith("access-control")]
        assert response.headers["Server"] == "fusebox"
        assert response.headers["Cache-Control"] == "no-store"


async def test_a_malformed_head_is_refused_without_a_stack_in_the_log(admin, caplog):
    reader, writer = await asyncio.open_connection(admin.host, admin.port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\nBad Name: Bearer fbx_secret\r\n\r\n")
    answer = await reader.read()
    assert answer.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
    assert b"Traceback" not in answer
    assert not caplog.records
    writer.close()
    await writer.wait_closed()
