"""Who is asking, and may they: bearer tokens, roles, and a limit on failed attempts."""

import logging
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from aiohttp import web

from proxy.admin.calls import Services
from proxy.admin.problems import REQUEST_ID, Problem
from proxy.clock import Clock
from proxy.core.audit import Entry, Outcome
from proxy.core.roles import Cause, Principal, Rejected, Role
from proxy.ports import StoreError

_log = logging.getLogger("fusebox.admin")

ATTEMPTS = 10
"""Failed attempts of one address in `WINDOW_S` seconds that are answered 401; the next ones get 429."""
WINDOW_S = 60.0
NOTED = 3
"""Refusals of one address, or one principal, in a window that are recorded one by one; the others are
counted and recorded as one when the window is over."""
RECORDED = 300
"""Entries about refusals in `WINDOW_S` seconds, whoever is behind them; the others become one. So nobody
fills the audit log by knocking from many addresses."""
ADDRESSES = 4096
"""Addresses remembered at a time; the longest known is forgotten first, so memory stays bounded."""

JWT_DOTS = 2


@dataclass(slots=True)
class _Window:
    since: float
    attempts: int
    last: Entry


class Refusals:
    """Counts what was refused, by who did it, in windows of `WINDOW_S` seconds; `note` records it.

    `note` gets the first `NOTED` of a window, and one entry with the number of the others once it is over.
    """

    def __init__(self, clock: Clock, note: Callable[[Entry], None]) -> None:
        self._clock = clock
        self._note = note
        self._since = clock()
        self._recorded = self._lost = 0  # in the window of all together
        self._windows: OrderedDict[str, _Window] = OrderedDict()  # by who, the oldest window first

    def count(self, who: str, entry: Entry) -> float:
        """Count one refusal; returns the seconds until this one may try again, 0 within `ATTEMPTS`."""
        now = self._clock()
        while self._windows and now - next(iter(self._windows.values())).since >= WINDOW_S:
            self._over(self._windows.popitem(last=False)[1])
        window = self._windows.get(who)
        if window is None:
            window = self._windows[who] = _Window(now, 0, entry)
            if len(self._windows) > ADDRESSES:
                self._over(self._windows.popitem(last=False)[1])
        window.attempts += 1
        window.last = entry
        if window.attempts <= NOTED:
            self._record(entry, 1)
        return window.since + WINDOW_S - now if window.attempts > ATTEMPTS else 0.0

    def close(self) -> None:
        """Record what was counted and not yet told."""
        last = next((it.last for it in self._windows.values()), None)
        while self._windows:
            self._over(self._windows.popitem(last=False)[1])
        if last is not None:
            self._tell_lost(last)

    def _over(self, window: _Window) -> None:
        more = window.attempts - NOTED
        if more > 0:
            last = window.last
            why = f"{more} more in {WINDOW_S:g} s; the last: {last.reason}"
            self._record(replace(last, after={"attempts": more}, reason=why), more)

    def _record(self, entry: Entry, attempts: int) -> None:
        now = self._clock()
        if now - self._since >= WINDOW_S:
            self._tell_lost(entry)
            self._since, self._recorded = now, 0
        if self._recorded < RECORDED:
            self._recorded += 1
            self._note(entry)
        else:
            self._lost += attempts

    def _tell_lost(self, like: Entry) -> None:
        lost, self._lost = self._lost, 0
        if lost:
            why = f"{lost} more in {WINDOW_S:g} s, of many"
            after = {"attempts": lost}
            self._note(
                Entry(
                    action=like.action,
                    outcome=like.outcome,
                    at=like.at,
                    instance=like.instance,
                    after=after,
                    reason=why,
                )
            )


class Access:
    """Turns a request's token into a principal of sufficient role, or refuses with 401, 403 or 429.

    A valid token is let in even from an address that is over its limit: an attacker behind the same
    address must not keep a commander from the kill switch. Tokens hold 256 random bits, so the limit
    guards log and CPU, not the secret. Tokens of our own are tried first: they need nobody else.
    """

    def __init__(self, services: Services, clock: Clock) -> None:
        self._tokens = services.tokens
        self._trail = services.trail
        self._issuer = services.issuer
        self._uses = services.uses
        self._failed = Refusals(clock, self._noted)
        self._forbidden = Refusals(clock, self._noted)

    async def admit(self, request: web.Request, role: Role) -> Principal:
        found = await self._who(request)
        if isinstance(found, Rejected):
            raise self._refused(request, found)
        if found.role < role:
            detail = f"This needs the role {role.label}; {found.name} is {found.role.label}."
            raise self._too_low(request, found.name, found.role.label, detail)
        return found

    def close(self) -> None:
        """Record what was counted and not yet told; once, at the end."""
        self._failed.close()
        self._forbidden.close()

    async def _who(self, request: web.Request) -> Principal | Rejected:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            return Rejected(cause=Cause.UNKNOWN if scheme else Cause.MISSING)
        found = self._tokens.verify(token)
        if isinstance(found, Principal):
            if self._uses is not None:
                self._uses.used(found.name)
        elif found.cause is Cause.UNKNOWN and self._issuer is not None and token.count(".") == JWT_DOTS:
            return await self._issuer.verify(token)
        return found

    def _refused(self, request: web.Request, rejected: Rejected) -> Problem:
        if rejected.cause is Cause.NO_ROLE:
            detail = f"{rejected.name} has no role here: [oidc] roles maps none of the claims to one."
            return self._too_low(request, rejected.name, "", detail)
        address = request.remote or ""
        entry = self._entry(
            "token.refused", request, actor="", role="", target=rejected.name, reason=_why(rejected)
        )
        if wait_s := math.ceil(self._failed.count(address, entry)):
            detail = f"More than {ATTEMPTS} attempts without a valid token from {address}."
            return Problem("too_many_attempts", detail, retry_after_s=wait_s)
        _log.warning(
            "token refused",
            extra={
                "address": address,
                "path": request.path,
                "request_id": request[REQUEST_ID],
                "cause": _why(rejected),
                "token_name": rejected.name,
            },
        )
        missing = rejected.cause is Cause.MISSING
        detail = "This needs 'Authorization: Bearer TOKEN'." if missing else "Nobody has this token."
        hint = " 'fusebox token create --role ROLE --name NAME' makes one."
        return Problem("unauthorized", detail + hint)

    def _too_low(self, request: web.Request, name: str, role: str, detail: str) -> Problem:
        asked = f"{request.method} {request.path}"
        entry = self._entry("access.refused", request, actor=name, role=role, target=asked, reason=detail)
        self._forbidden.count(name, entry)
        return Problem("forbidden", detail)

    def _entry(
        self, action: str, request: web.Request, *, actor: str, role: str, target: str, reason: str
    ) -> Entry:
        return self._trail.entry(
            action,
            Outcome.REFUSED,
            actor=actor,
            role=role,
            target=target[:256],
            reason=reason,
            address=request.remote or "",
            request_id=request[REQUEST_ID],
        )

    def _noted(self, entry: Entry) -> None:
        try:
            self._trail.note(entry, sync=False)  # the loop waits for no disk because somebody knocks
        except StoreError as error:  # nothing has happened that would have to be taken back
            _log.error("%s is not in the audit log: %s", entry.action, error)


def _why(rejected: Rejected) -> str:
    return f"{rejected.cause}: {rejected.detail}" if rejected.detail else str(rejected.cause)
