import aiohttp
import pytest

from proxy.tasks import spawn

PAYMENT = {"user_id": "u001", "amount_cents": 1299}
EMAIL = {"to": "u001@example.org", "subject": "Your films tonight"}
SERVICES = [
    ("payment", "/payment/charges", "/payment/ledger", PAYMENT),
    ("email", "/email/messages", "/email/outbox", EMAIL),
]


def key(value):
    return {"Idempotency-Key": value}


async def entries(client, path):
    book = await (await client.get(path)).json()
    assert book["count"] == len(book["entries"])
    return book["entries"]


@pytest.mark.parametrize(("name", "path", "book", "order"), SERVICES)
async def test_the_same_key_does_it_once_and_replays_the_answer(start, name, path, book, order):
    client = await start(name)
    first = await client.post(path, json=order, headers=key("a"))
    again = await client.post(path, json=order, headers=key("a"))
    assert (first.status, again.status) == (201, 201)
    assert await first.json() == await again.json()
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert [entry["key"] for entry in await entries(client, book)] == ["a"]


@pytest.mark.parametrize(("name", "path", "book", "order"), SERVICES)
async def test_the_same_key_for_another_order_is_422(start, name, path, book, order):
    client = await start(name)
    await client.post(path, json=order, headers=key("a"))
    assert (await client.post(path, json={**order, "user_id": "u002"}, headers=key("a"))).status == 422
    assert len(await entries(client, book)) == 1


async def test_other_keys_are_other_payments(start):
    client = await start("payment")
    answers = [await client.post("/payment/charges", json=PAYMENT, headers=key(k)) for k in "abc"]
    assert len({(await answer.json())["id"] for answer in answers}) == 3


async def test_a_key_whose_first_request_is_at_work_is_409(start):
    client = await start("payment")
    await client.post("/_fault", json={"mode": "hang"})
    first = spawn(client.post("/payment/charges", json=PAYMENT, headers=key("a")), "first")
    while (await (await client.get("/_fault")).json())["requests"] == 0:
        pass
    assert (await client.post("/payment/charges", json=PAYMENT, headers=key("a"))).status == 409
    await client.post("/_fault", json={"mode": "none"})
    assert (await first).status == 201
    assert len(await entries(client, "/payment/ledger")) == 1


async def test_a_client_that_leaves_a_hanging_payment_may_try_again(start):
    """No effect had happened: the key is free, and the next try pays."""
    client = await start("payment")
    await client.post("/_fault", json={"mode": "hang"})
    with pytest.raises(TimeoutError):
        await client.post(
            "/payment/charges", json=PAYMENT, headers=key("a"), timeout=aiohttp.ClientTimeout(total=0.1)
        )
    await client.post("/_fault", json={"mode": "none"})
    assert (await client.post("/payment/charges", json=PAYMENT, headers=key("a"))).status == 201
    assert len(await entries(client, "/payment/ledger")) == 1


async def test_an_error_before_the_work_leaves_no_trace(start):
    client = await start("payment")
    await client.post("/_fault", json={"mode": "error"})
    assert (await client.post("/payment/charges", json=PAYMENT, headers=key("a"))).status == 500
    assert await entries(client, "/payment/ledger") == []
    await client.post("/_fault", json={"mode": "none"})
    done = await client.post("/payment/charges", json=PAYMENT, headers=key("a"))
    assert done.status == 201
    assert "Idempotency-Replayed" not in done.headers


async def test_a_lost_answer_is_replayed_to_who_asks_again(start):
    """The payment was made, the connection cut: the ledger shows it, the next try learns of it."""
    client = await start("payment")
    await client.post("/_fault", json={"mode": "reset"})
    with pytest.raises(aiohttp.ClientError):
        await client.post("/payment/charges", json=PAYMENT, headers=key("a"))
    assert len(await entries(client, "/payment/ledger")) == 1
    await client.post("/_fault", json={"mode": "none"})
    again = await client.post("/payment/charges", json=PAYMENT, headers=key("a"))
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(await entries(client, "/payment/ledger")) == 1


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b'{"user_id": "u001", "amount_cents": 5}'),
        (key("x" * 256), b'{"user_id": "u001", "amount_cents": 5}'),
        (key("a"), b"not json"),
        (key("a"), b"[]"),
        (key("a"), b'{"user_id": "u001"}'),
        (key("a"), b'{"user_id": "u001", "amount_cents": 0}'),
        (key("a"), b'{"user_id": "u001", "amount_cents": true}'),
        (key("a"), b'{"user_id": "u001", "amount_cents": 1.5}'),
        (key("a"), b'{"amount_cents": 5}'),
    ],
)
async def test_an_ill_made_payment_is_400_and_uses_up_no_key(start, headers, body):
    client = await start("payment")
    assert (await client.post("/payment/charges", data=body, headers=headers)).status == 400
    assert (await client.post("/payment/charges", json=PAYMENT, headers=key("a"))).status == 201


async def test_an_email_without_subject_is_400(start):
    client = await start("email")
    answer = await client.post("/email/messages", json={"to": "u001@example.org"}, headers=key("a"))
    assert answer.status == 400
    assert "subject" in (await answer.json())["detail"]
