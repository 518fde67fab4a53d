"""Payment and email: services whose work must happen once, whatever gets lost on the way.

Both follow draft-ietf-httpapi-idempotency-key-header (07, section 2): the same key with the same
body replays the first answer, the same key with another body is 422, while the first is still at
work it is 409, and no key at all is 400.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson
from aiohttp import web

from proxy.demo.faults import FAULTS, answer, problem

KEY_MAX = 255
BODY_MAX = 64 * 1024

Order = Mapping[str, Any]


@dataclass(slots=True)
class _Known:
    fingerprint: bytes
    receipt: dict[str, Any] | None = None  # None: at work


class Ledger:
    """What was really done, one entry per effect, in order."""

    def __init__(self, noun: str, check: Callable[[Order], str]) -> None:
        self._noun = noun
        self._check = check
        self._known: dict[str, _Known] = {}
        self.entries: list[dict[str, Any]] = []

    async def perform(self, request: web.Request) -> web.Response:
        """Does what is ordered and answers 201 with a receipt, the same one on each repetition."""
        key = request.headers.get("Idempotency-Key", "")
        if not 0 < len(key) <= KEY_MAX:
            raise problem(web.HTTPBadRequest, f"Idempotency-Key must be given, at most {KEY_MAX} characters")
        body = await request.read()
        order = self._order(body)
        known = self._known.get(key)
        fingerprint = sha256(body).digest()
        if known is None:
            return answer(await self._first(request, key, fingerprint, order), 201)
        if known.fingerprint != fingerprint:
            raise problem(web.HTTPUnprocessableEntity, "this Idempotency-Key was used for another order")
        if known.receipt is None:
            raise problem(web.HTTPConflict, "the first request with this Idempotency-Key is still at work")
        await request.app[FAULTS].strike()
        return answer(known.receipt, 201, {"Idempotency-Replayed": "true"})

    async def _first(
        self, request: web.Request, key: str, fingerprint: bytes, order: Order
    ) -> dict[str, Any]:
        known = self._known[key] = _Known(fingerprint)
        try:
            await request.app[FAULTS].strike()
            # from here to the receipt nothing is awaited: effect and memory of it are one step
            receipt = {**order, "id": f"{self._noun}-{len(self.entries) + 1}"}
            self.entries.append({**receipt, "key": key})
            known.receipt = receipt
        finally:
            if known.receipt is None:
                del self._known[key]
        return receipt

    def _order(self, body: bytes) -> Order:
        try:
            order = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise problem(web.HTTPBadRequest, "the body is not JSON") from None
        if not isinstance(order, dict):
            raise problem(web.HTTPBadRequest, "the body must be an object")
        if wrong := self._check(order):
            raise problem(web.HTTPBadRequest, wrong)
        return order

    async def show(self, _: web.Request) -> web.Response:
        """Every effect so far: `{"count", "entries": [{"key", "id", …}]}`. Works through any fault."""
        return answer({"count": len(self.entries), "entries": self.entries})


def payment_order(order: Order) -> str:
    """What is wrong with a payment, or nothing."""
    amount = order.get("amount_cents")
    if not isinstance(amount, int) or isinstance(amount, bool) or amount <= 0:
        return "amount_cents must be a whole number above 0"
    if not isinstance(order.get("user_id"), str):
        return "user_id must be given"
    return ""


def email_order(order: Order) -> str:
    """What is wrong with an email, or nothing."""
    missing = [name for name in ("to", "subject") if not isinstance(order.get(name), str)]
    return f"{' and '.join(missing)} must be given" if missing else ""
