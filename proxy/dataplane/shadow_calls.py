"""What shadows are made of: a real answer kept, the same request to another upstream, a second plan."""

import re
from copy import copy
from typing import TYPE_CHECKING, cast

from proxy.clock import monotonic
from proxy.core.decision import KILLED, Decision
from proxy.core.policy import Priority
from proxy.core.shadow import Shown
from proxy.dataplane import rewrite
from proxy.dataplane.call import OVER, Call
from proxy.dataplane.failures import Failure
from proxy.dataplane.fields import lines_of
from proxy.dataplane.forward import Forward
from proxy.dataplane.recommend import Recommend
from proxy.dataplane.request_head import RequestHead
from proxy.dataplane.response_head import ResponseHead
from proxy.errors import Refusal

if TYPE_CHECKING:
    from proxy.core.popularity import Popularity
    from proxy.core.trust import TrustedProxies
    from proxy.dataplane.client import ClientConnection
    from proxy.dataplane.plane import DataPlane
    from proxy.dataplane.shadow import RouteShadow

_MARK = b"X-Fusebox-Shadow: 1\r\n"
_CODING = re.compile(rb"(?im)^content-encoding:[ \t]*([^\r\n]*?)[ \t]*\r").search


class _Passing:
    """A real answer on its way, kept to be compared; it holds one of the places of copies."""

    def __init__(self, forward: "Copied", shadow: "RouteShadow", status: int, coding: bytes) -> None:
        self.shadow = shadow
        self._forward = forward
        self._status = status
        self._coding = coding
        self._pieces: list[bytes] = []
        self._left = shadow.settings.max_answer_bytes
        self._lane = shadow.lane

    def begin(self, now: float) -> None:
        self._lane.set(self, now)

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._left -= len(piece)
        if self._left < 0:
            self.stop()
            self.shadow.ended(self, "skipped_size")

    def on_deadline(self, now: float) -> None:
        """A stream of events ends when it will."""
        self.stop()
        self.shadow.ended(self, "skipped_late")

    def stop(self) -> None:
        self._lane.clear(self)
        self._forward.kept = None

    def shown(self) -> Shown:
        return Shown(self._status, b"".join(self._pieces), self._coding)


class Copied(Forward):
    """A forwarded request whose answer is compared with that of a copy."""

    kept: _Passing | None = None

    def on_response(self, head: ResponseHead, body: bytes, ended: bool) -> None:
        super().on_response(head, body, ended)
        shadow = self._bound.shadow
        if shadow is None:
            return
        coding = _coding(head)
        if ended:
            shadow.copy(self._client, self._head, Shown(head.status, body, coding))
        elif self.phase != OVER:
            passing = _Passing(self, shadow, head.status, coding)
            if shadow.reserve(passing):
                self.kept = passing
                passing.begin(monotonic())
                passing.add(body)

    def on_body(self, piece: bytes, trailers: bytes, *, ended: bool) -> None:
        if self.kept is not None:
            self.kept.add(piece)
        super().on_body(piece, trailers, ended=ended)
        if ended and (passing := self._let_go()) is not None:
            passing.shadow.copy(self._client, self._head, passing.shown())

    def on_failed(self, failure: Failure, detail: str) -> None:
        self._let_go()
        super().on_failed(failure, detail)

    def on_client_gone(self, *, refused: bool = False) -> bool:
        self._let_go()
        return super().on_client_gone(refused=refused)

    def _let_go(self) -> _Passing | None:
        passing = self.kept
        if passing is not None:
            passing.stop()
            passing.shadow.free(passing)
        return passing


def _coding(head: ResponseHead) -> bytes:
    found = _CODING(head.lines)
    return b"" if found is None else found[1].lower()


class _Sender:
    """The connection a copied request came on, as it was: it may be gone by now."""

    def __init__(self, client: "ClientConnection") -> None:
        self.peer = client.peer
        self.hop_lines = client.hop_lines
        self.plane = client.plane


def _marked(head: RequestHead) -> RequestHead:
    """The head of a copy: it says so to whomever it is sent."""
    out = copy(head)
    out.action = None
    out.id_lines = head.id_lines + _MARK
    return out


class Copy(Call):
    """The same GET, without what tells who the client is to others, to another upstream."""

    one_deadline = True
    priority = int(Priority.LOW)
    _status = 0
    _coding = b""
    _pieces: tuple[bytes, ...] = ()
    _size = 0

    def __init__(
        self,
        shadow: "RouteShadow",
        client: "ClientConnection",
        head: RequestHead,
        real: Shown,
        seconds: float,
    ) -> None:
        self._shadow = shadow
        self._sender = _Sender(client)
        self._head = head
        self._real = real
        self._seconds = seconds
        self.first_byte = shadow.lane
        (self.pool,) = shadow.pools

    def start(self, now: float) -> None:
        shadow = self._shadow
        if self.pool not in shadow.pools:  # a reload has just taken it away
            shadow.free(self)
            return
        if obstacle := shadow.obstacle((self.pool,), now):
            shadow.ended(self, obstacle)
            return
        head = _marked(self._head)
        head.lines = b"".join(
            b"%b: %b\r\n" % line for line in lines_of(head.lines) if line[0].lower() in shadow.passed
        )
        self.request = rewrite.request(head, self._sender, self.pool.place.authority) + b"\r\n"
        self._started = now
        try:
            self.begin(now, head.bucket)
        except Refusal:
            shadow.ended(self, "skipped_breaker")

    def stop(self) -> None:
        self.give_up(Failure.ABORTED, monotonic())

    def on_response(self, head: ResponseHead, body: bytes, ended: bool) -> None:
        self._status, self._coding = head.status, _coding(head)
        if ended:
            self.succeeded(head.status, monotonic())
        else:
            self.answering(monotonic())
        self._take(body, ended=ended)

    def on_body(self, piece: bytes, trailers: bytes, *, ended: bool) -> None:
        if ended:
            self.succeeded(self._status, monotonic())
        self._take(piece, ended=ended)

    def _take(self, piece: bytes, *, ended: bool) -> None:
        self._pieces = (*self._pieces, piece)
        self._size += len(piece)
        if self._size > self._shadow.settings.max_answer_bytes:
            self.stop()
            self._shadow.ended(self, "skipped_size")
        elif ended:
            shown = Shown(self._status, b"".join(self._pieces), self._coding)
            took = self._seconds, monotonic() - self._started
            self._shadow.compared(self, self._head, self._real, shown, took)

    def on_failed(self, failure: Failure, detail: str) -> None:
        self._shadow.ended(self, "timeout" if failure is Failure.TIMEOUT else "failed")


class _Counted:
    """Accounts of second plans: they are in no log."""

    def finished(self, head: RequestHead, status: int, now: float, failure: Failure | None = None) -> None:
        if head.bound is not None:
            head.bound.cell.count(status, now - head.started)


_COUNTED = _Counted()


class _Behind:
    """The data plane as a second plan sees it: it knows the same, and counts apart."""

    def __init__(self, plane: "DataPlane") -> None:
        self.accounting = _COUNTED
        self.popularity: Popularity = plane.popularity
        self.trusted: TrustedProxies = plane.trusted
        self._plane = plane

    @property
    def killed(self) -> bool:
        return self._plane.killed


class _Nobody(_Sender):
    """Reads as a client to whoever answers, and takes the answer."""

    def __init__(self, client: "ClientConnection", plan: "Plan") -> None:
        super().__init__(client)
        self._plan = plan
        self._answer = b""

    def must_close(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self._answer = data

    def answered(self, close: bool = False) -> None:
        self._plan.answered(self._answer.partition(b"\r\n\r\n")[2])


class Plan:
    """A recommend request, decided again under other toggles, and then served as any other."""

    def __init__(
        self,
        shadow: "RouteShadow",
        client: "ClientConnection",
        head: RequestHead,
        real: Shown,
        seconds: float,
    ) -> None:
        self._shadow = shadow
        self._nobody = _Nobody(client, self)
        self._head = head
        self._real = real
        self._seconds = seconds
        self._lane = shadow.lane
        self._recommend: Recommend | None = None

    def start(self, now: float) -> None:
        shadow, head = self._shadow, _marked(self._head)
        who = shadow.identity.who(head.user, head.fields, head.query)
        bound = head.bound = shadow.plan.choices.under(head, who, shadow.laid)
        real = self._head.bound.decision if self._head.bound is not None else KILLED
        if _alike(bound.decision, real):
            shadow.ended(self, "skipped_same_plan")
        elif real.cache_mode == "warm_only":  # which is to spare the sources
            shadow.ended(self, "skipped_no_headroom")
        elif obstacle := shadow.obstacle(bound.asked, now):
            shadow.ended(self, obstacle)
        else:
            self._started = head.started = now
            self._lane.set(self, now)
            self._nobody.plane = cast("DataPlane", _Behind(shadow.plane))
            self._recommend = Recommend.begin(cast("ClientConnection", self._nobody), head, bound, now)

    def answered(self, body: bytes) -> None:
        self._lane.clear(self)
        self._recommend = None
        took = self._seconds, monotonic() - self._started
        self._shadow.compared(self, self._head, self._real, Shown(200, body), took)

    def on_deadline(self, now: float) -> None:
        self.stop()
        self._shadow.ended(self, "timeout")

    def stop(self) -> None:
        self._lane.clear(self)
        recommend, self._recommend = self._recommend, None
        if recommend is not None:
            recommend.on_client_gone()


def _alike(one: Decision, other: Decision) -> bool:
    """Whether both ask the same and make the same of it."""
    return (one.policy, one.sources, one.alpha, one.level, one.expands) == (
        other.policy, other.sources, other.alpha, other.level, other.expands,
    )  # fmt: skip
