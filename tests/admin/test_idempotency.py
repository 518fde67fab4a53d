"""The same change under the same key happens once and has one answer."""

import asyncio

import pytest

from proxy.admin.idempotency import KEPT_S, KEYS, PRINCIPALS, Kept, Replays, fingerprint
from proxy.admin.problems import Problem
from proxy.core.roles import Role
from proxy.tasks import spawn

OPEN = "/v1/breakers/payment/open"


def ask(admin, key="k1", path=OPEN, reason="why", role=Role.ADMIN):
    headers = {"Idempotency-Key": key}
    return admin.ask("POST", path, role=role, headers=headers, json={"reason": reason})


async def test_the_second_request_gets_the_first_answer_and_does_nothing(admin):
    first = await ask(admin)
    await admin.ask("POST", "/v1/breakers/payment/auto", role=Role.ADMIN, json={"reason": "between"})
    again = await ask(admin)
    assert (again.status, await again.text()) == (first.status, await first.text())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    for name in ("Content-Type", "X-Fusebox-Changed"):
        assert again.headers[name] == first.headers[name]
    assert admin.plane.breakers["payment"].forced is None
    assert admin.trail.told() == [("breaker.open", "accepted"), ("breaker.auto", "accepted")]


async def test_another_request_under_the_key_is_422(admin):
    await ask(admin)
    for other in ({"reason": "another"}, {"path": "/v1/breakers/payment/close"}):
        response = await ask(admin, **other)
        assert (response.status, (await response.json())["code"]) == (422, "idempotency_key_reused")
    assert admin.plane.breakers["payment"].forced == "open"


async def test_while_the_first_is_under_way_the_second_is_409(admin):
    admin.trail.go.clear()
    first = spawn(ask(admin), "first")
    async with asyncio.timeout(10):
        await admin.trail.reached.wait()
    second = await ask(admin)
    assert (second.status, (await second.json())["code"]) == (409, "request_running")
    assert second.headers["Retry-After"] == "1"
    admin.trail.go.set()
    assert (await first).status == 200
    assert (await ask(admin)).headers["Idempotency-Replayed"] == "true"


async def test_what_failed_may_be_tried_again(admin):
    admin.trail.gone = "no store"
    assert (await ask(admin)).status == 503
    admin.trail.gone = ""
    again = await ask(admin)
    assert (again.status, "Idempotency-Replayed" in again.headers) == (200, False)


async def test_keys_of_one_principal_are_nothing_to_another(admin):
    await ask(admin, role=Role.ADMIN)
    other = await ask(admin, role=Role.OPERATOR)
    assert "Idempotency-Replayed" not in other.headers


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 201, "\u00e9"])
async def test_what_is_no_key_is_400_naming_the_field(admin, key):
    response = await ask(admin, key=key)
    problem = await response.json()
    assert response.status == 400
    assert problem["errors"][0]["at"] == "header.Idempotency-Key"
    assert admin.trail.entries == []


ANSWER = Kept(200, (), b"{}")


def test_an_answer_is_kept_for_a_day():
    now = 0.0
    replays = Replays(lambda: now)
    assert replays.begin("a", "k", b"1") is None
    replays.finish("a", "k", ANSWER)
    now = KEPT_S - 1
    assert replays.begin("a", "k", b"1") == ANSWER
    now = KEPT_S
    assert replays.begin("a", "k", b"2") is None


def test_memory_is_bounded_and_what_is_under_way_is_never_forgotten():
    replays = Replays(lambda: 0.0)
    replays.begin("a", "running", b"1")
    for number in range(2 * KEYS):
        replays.begin("a", f"k{number}", b"1")
        replays.finish("a", f"k{number}", ANSWER)
    assert len(replays._principals["a"]) == KEYS
    with pytest.raises(Problem, match="not answered yet"):
        replays.begin("a", "running", b"1")
    for number in range(2 * PRINCIPALS):
        replays.begin(f"p{number}", "k", b"1")
    assert len(replays._principals) == PRINCIPALS
    replays.finish("a", "running", ANSWER)


def test_parts_of_a_request_do_not_run_into_each_other():
    assert fingerprint("PUT", "/a", b"b") != fingerprint("PUT", "/ab", b"")
