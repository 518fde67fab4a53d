"""`Idempotency-Key`: the same change asked for again gets the answer it had, and happens once."""

import hashlib
import re
from collections import OrderedDict
from dataclasses import dataclass

from proxy.admin.problems import Fault, Problem
from proxy.clock import Clock

KEY = re.compile(r"[\x21-\x7e]{1,200}")
"""What may be a key: visible ASCII."""
KEPT_S = 24 * 3600.0
"""Seconds for which an answer is remembered."""
KEYS = 256
"""Answers remembered for one principal; the oldest are forgotten first."""
PRINCIPALS = 256
"""Principals for whom any are; the one who has been quiet for longest is forgotten first."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer as it was given."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(slots=True)
class _Request:
    fingerprint: bytes
    since: float
    answer: Kept | None = None  # None: under way


def fingerprint(method: str, target: str, body: bytes) -> bytes:
    """What makes two requests the same."""
    made = hashlib.sha256()
    for part in (method.encode(), target.encode(), body):
        made.update(len(part).to_bytes(8, "big") + part)
    return made.digest()


class Replays:
    """Answers by principal and key, in memory: a restart forgets them.

    Only what succeeded is kept; what was refused or failed may be tried again under its key.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._principals: OrderedDict[str, OrderedDict[str, _Request]] = OrderedDict()

    def begin(self, name: str, key: str, request: bytes) -> Kept | None:
        """The answer to give again, or None: carry it out, then call `finish`.

        Problem when the key is none, when it stood for another request, or for one under way.
        """
        if not KEY.fullmatch(key):
            fault = Fault(at="header.Idempotency-Key", detail="should be 1 to 200 visible ASCII characters")
            raise Problem("bad_request", f"{fault.at}: {fault.detail}", errors=[fault])
        requests = self._of(name)
        now = self._clock()
        while requests and (oldest := next(iter(requests.values()))).since + KEPT_S <= now and oldest.answer:
            requests.popitem(last=False)
        known = requests.get(key)
        if known is None:
            requests[key] = _Request(request, now)
            self._forget(requests)
            return None
        if known.fingerprint != request:
            detail = "This Idempotency-Key stood for another request: a new change needs a new key."
            raise Problem("idempotency_key_reused", detail)
        if known.answer is None:
            detail = "The first request with this Idempotency-Key is not answered yet: ask again."
            raise Problem("request_running", detail, retry_after_s=1)
        return known.answer

    def finish(self, name: str, key: str, answer: Kept | None) -> None:
        """Keep the answer of a request begun, or forget the request (None)."""
        requests = self._principals.get(name, OrderedDict())
        if answer is None:
            requests.pop(key, None)
        elif key in requests:
            requests[key].answer = answer

    def _of(self, name: str) -> OrderedDict[str, _Request]:
        requests = self._principals.setdefault(name, OrderedDict())
        self._principals.move_to_end(name)
        if len(self._principals) > PRINCIPALS:
            self._principals.popitem(last=False)
        return requests

    @staticmethod
    def _forget(requests: OrderedDict[str, _Request]) -> None:
        if len(requests) > KEYS:
            answered = (key for key, it in requests.items() if it.answer is not None)
            if (oldest := next(answered, None)) is not None:
                del requests[oldest]
