"""Requests whose decision can be made again (`core.inputs`), kept at next to no cost."""

import random
from collections.abc import Callable

from proxy.core.identity import IdentityReader
from proxy.core.inputs import PER_S, Input, Sampler
from proxy.core.override import HEADER as OVERRIDE
from proxy.dataplane.request_head import RequestHead

Keep = Callable[[Input], None]

_TURN_S = 1.0


class Sampling(Sampler):
    """The sampler of one process; what it picks goes to `keep`."""

    __slots__ = ("_keep", "_next_turn")

    def __init__(self, keep: Keep, now: float, *, per_s: int = PER_S) -> None:
        super().__init__(per_s, random.randint, now)
        self._keep = keep
        self._next_turn = now + _TURN_S

    def picked(self, route: str, head: RequestHead, identity: IdentityReader) -> None:
        """Keep a request whose user and bucket are known: none was `left`.

        Unless it is overridden. Those in the gap before it are not told apart, and leave the share of
        overridden requests among those that the kept ones stand for what it is.
        """
        weight = self.take()
        if OVERRIDE in head.fields:
            return
        user = head.user
        who = identity.who(user, head.fields, head.query)
        self._keep(Input(route, who, user or head.request_id, head.bucket, weight, head.started))

    def tick(self, now: float) -> None:
        if now >= self._next_turn:
            self._next_turn = now + _TURN_S
            self.turn(now)


def keeping_nothing() -> Sampling:
    """For a data plane that nobody asks what it decided."""
    return Sampling(lambda _: None, 0.0, per_s=1)
