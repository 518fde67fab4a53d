"""Actions of users, recorded before their answer goes out.

A request that a rule fits has room reserved in the spool before anything goes upstream. Whatever becomes
of it, whoever writes the first byte of its final answer, or finds that nobody waits for one, settles the
`Pending` first: exactly one entry, or none where the rule says so.
"""

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from proxy.clock import Clock, monotonic, rfc3339, wall
from proxy.core.actions import Fields, Match, RouteRules
from proxy.core.audit import Outcome, canonical
from proxy.core.events import EffectEvent
from proxy.core.trust import direct
from proxy.dataplane.fields import lines_of
from proxy.dataplane.rewrite import client_of
from proxy.errors import Fault, Refusal
from proxy.ports import StoreError
from proxy.ports.events import EventSink
from proxy.ports.records import Spool
from proxy.telemetry.counters import Counters

if TYPE_CHECKING:
    from proxy.dataplane.call import Call
    from proxy.dataplane.client import ClientConnection
    from proxy.dataplane.request_head import RequestHead
    from proxy.dataplane.response_head import ResponseHead

_NOTHING: Fields = {}
_SAID: Mapping[Outcome, str] = {outcome: outcome.value for outcome in Outcome}  # `value` itself is slow

_log = logging.getLogger("fusebox.audit")


class Recorder:
    """Writes entries of actions into `spool`. `sync`: each one flushed to the disk, which all wait for."""

    def __init__(
        self,
        spool: Spool,
        counters: Counters,
        *,
        instance: str = "",
        sync: bool = False,
        rng: Callable[[], float] = random.random,
        wall: Clock = wall,
        events: EventSink | None = None,
    ) -> None:
        self._spool = spool
        self._counters = counters
        self._instance = canonical({"instance": instance})[1:-1].decode()
        self._sync = sync
        self._rng = rng
        self._wall = wall
        self._events = events
        self._pending: set[Pending] = set()
        self._trouble = ""

    def begin(self, client: "ClientConnection", head: "RequestHead", rules: RouteRules) -> None:
        """Promise an entry for this request as `head.action`, if it is an action that is recorded.

        Raises `Refusal` when there is no room for it and the rule wants it refused then.
        """
        found = rules.match(head.method, head.path)
        if not found:
            return
        draw = self._rng()
        size = 0
        counted = True
        for rule, _ in found:
            if draw < rule.sample:
                counted = counted and rule.counted
                if rule.size > size:  # noqa: PLR1730 - on the way of every action
                    size = rule.size
        if not size:
            return
        if not self._spool.room(size):
            self._in_trouble(self._spool.trouble)
            if not counted:
                raise _full()
            size = 0
        elif self._trouble:
            self._trouble = ""
            _log.info("actions are recorded again")
        pending = head.action = Pending(self, client, head, found, draw, size)
        self._pending.add(pending)

    def close(self) -> None:
        """Settle what is still under way: its answer will not be seen."""
        for pending in tuple(self._pending):
            pending.gone()

    def keep(
        self, pending: "Pending", outcome: Outcome, status: int, code: str, answer: "ResponseHead | None"
    ) -> None:
        """Settle it: write the entry, give back the room."""
        head = pending.head
        head.action = None
        pending.call = None
        self._pending.discard(pending)
        # The first rule that fits the answer, too, if chance was not against it.
        for match in pending.found:
            if match[0].takes(status, outcome):
                break
        else:
            self._give_back(pending)
            return
        rule, captured = match
        if pending.draw >= rule.sample:
            self._give_back(pending)
            return
        said = _SAID[outcome]
        try:
            fields = _NOTHING
            if answer is not None and rule.reads_answer:
                fields = {name.lower(): value for name, value in reversed(lines_of(answer.lines))}
            # Each of these is plain text: nothing in it needs an escape.
            client = pending.client
            address = client_of(head, client).address if head.claims else _address(client.peer)
            data = rule.written(
                f'"outcome":"{said}","at":"{rfc3339(self._wall())}",'
                f'"address":"{address}",'
                f'"request_id":"{head.request_id.decode()}","status":{status},{self._instance}',
                (head.fields, head.query, captured, fields),
                code,
            )
            reserved, pending.reserved = pending.reserved, 0
            self._spool.add(data, reserved=reserved, sync=self._sync)
        except StoreError as error:
            self._counters.audit_lost += 1
            self._in_trouble(str(error))
        except Exception:  # noqa: BLE001 - a fault of ours must not cost the client its answer
            self._counters.audit_lost += 1
            self._give_back(pending)
            _log.exception("an action %s could not be recorded", rule.action)
        else:
            self._counters.actions[rule.action, said] += 1
            if self._events is not None:
                self._events.add(_effect(head, rule.action, said, status, code))

    def _give_back(self, pending: "Pending") -> None:
        if pending.reserved:
            self._spool.release(pending.reserved)

    def _in_trouble(self, why: str) -> None:
        """Said once, until it is over."""
        if not self._trouble:
            _log.error("actions cannot be recorded: %s", why)
        self._trouble = why


class Pending:
    """An action under way. It settles once; `head.action` is None from then on."""

    __slots__ = ("_recorder", "call", "client", "draw", "found", "head", "reserved")

    def __init__(
        self,
        recorder: Recorder,
        client: "ClientConnection",
        head: "RequestHead",
        found: Sequence[Match],
        draw: float,
        reserved: int,
    ) -> None:
        self._recorder = recorder
        self.found = found
        self.draw = draw
        self.client = client
        self.head = head
        self.reserved = reserved
        self.call: Call | None = None  # once there is one

    def answered(self, answer: "ResponseHead") -> None:
        """The upstream's final answer is about to go to the client."""
        status = answer.status
        outcome = Outcome.DONE if status < 400 else Outcome.REFUSED if status < 500 else Outcome.FAILED
        self._recorder.keep(self, outcome, status, "", answer)

    def refused(self, refusal: Refusal) -> None:
        """The sidecar is about to answer by itself."""
        if self._sent:
            outcome = Outcome.UNKNOWN
        elif refusal.status < 500 or (refusal.status == 503 and refusal.fault is not Fault.UPSTREAM):
            outcome = Outcome.REFUSED  # by decision: nothing was tried
        else:
            outcome = Outcome.FAILED
        self._recorder.keep(self, outcome, refusal.status, refusal.code, None)

    def gone(self) -> None:
        """Nobody waits for the answer any more."""
        self._recorder.keep(self, Outcome.UNKNOWN if self._sent else Outcome.FAILED, 499, "aborted", None)

    @property
    def _sent(self) -> bool:
        """Whether any of the request went upstream."""
        return self.call is not None and self.call.sent_at > 0.0


@lru_cache(maxsize=4096)
def _address(peer: str) -> str:
    """Of one that says nothing of earlier hops."""
    return direct(peer, tls=False).address


def _effect(head: "RequestHead", action: str, outcome: str, status: int, code: str) -> EffectEvent:
    route = head.bound.name if head.bound is not None else "none"
    return ("effect", monotonic(), head.request_id, head.user, route, action, outcome, status, code)


def _full() -> Refusal:
    return Refusal(
        "audit_full",
        503,
        "Service Unavailable",
        "this action cannot be recorded now; nothing was sent",
        fault=Fault.SIDECAR,
        retry_after_s=5,
    )
