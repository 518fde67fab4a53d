"""Who is asking, and may they: bearer tokens, roles, and a limit on failed attempts."""

import logging
import math
from collections import OrderedDict

from aiohttp import web

from proxy.admin.problems import REQUEST_ID
from proxy.clock import Clock
from proxy.core.roles import Principal, Role
from proxy.errors import Refusal
from proxy.ports import TokenStore

_log = logging.getLogger("fusebox.admin")

ATTEMPTS = 10
"""Failed attempts of one address in `WINDOW_S` seconds that are answered 401; the next ones get 429."""
WINDOW_S = 60.0
ADDRESSES = 4096
"""Addresses remembered at a time; the longest known is forgotten first, so memory stays bounded."""


class FailedAttempts:
    """Counts failed attempts by address in windows of `WINDOW_S` seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_address: OrderedDict[str, tuple[float, int]] = OrderedDict()  # window's start, attempts

    def count(self, address: str) -> float:
        """Count one attempt; returns the seconds until the address may fail again, 0 within the limit."""
        now = self._clock()
        since, attempts = self._by_address.get(address, (now, 0))
        if now - since >= WINDOW_S:
            since, attempts = now, 0
            self._by_address.pop(address)
        self._by_address[address] = since, attempts + 1
        if len(self._by_address) > ADDRESSES:
            self._by_address.popitem(last=False)
        return since + WINDOW_S - now if attempts >= ATTEMPTS else 0.0


class Access:
    """Turns a request's token into a principal of sufficient role, or refuses with 401, 403 or 429.

    A valid token is let in even from an address that is over its limit: an attacker behind the same
    address must not keep a commander from the kill switch. Tokens hold 256 random bits, so the limit
    guards log and CPU, not the secret.
    """

    def __init__(self, tokens: TokenStore, clock: Clock) -> None:
        self._tokens = tokens
        self._failed = FailedAttempts(clock)

    def admit(self, request: web.Request, role: Role) -> Principal:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        principal = self._tokens.verify(token.strip()) if scheme.lower() == "bearer" and token else None
        if principal is None:
            raise self._refusal(request, given=bool(scheme))
        if principal.role < role:
            detail = f"This needs the role {role.label}; {principal.name} is {principal.role.label}."
            raise Refusal("forbidden", 403, "Role does not suffice", detail)
        return principal

    def _refusal(self, request: web.Request, *, given: bool) -> Refusal:
        address = request.remote or ""
        wait_s = math.ceil(self._failed.count(address))
        if wait_s:
            detail = f"More than {ATTEMPTS} attempts without a valid token from {address}."
            return Refusal("too_many_attempts", 429, "Too many attempts", detail, retry_after_s=wait_s)
        _log.warning(
            "token refused",
            extra={"address": address, "path": request.path, "request_id": request[REQUEST_ID]},
        )
        detail = "Nobody has this token." if given else "This needs 'Authorization: Bearer TOKEN'."
        hint = " 'fusebox token create --role ROLE --name NAME' makes one."
        return Refusal("unauthorized", 401, "Token missing or unknown", detail + hint)
