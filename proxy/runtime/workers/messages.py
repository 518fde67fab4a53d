"""What the supervisor and a worker say to each other, each a value; the order sent is the order taken.

Frames are a length (4 bytes, big-endian) and a pickle. Both ends are this program, and the socketpair
is inherited by nobody else, so no foreign pickle can arrive.
"""

import pickle
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from proxy.core.breaker import BreakerStatus, Transition
from proxy.core.inputs import Input
from proxy.core.policy import Policy
from proxy.core.rollback.signals import Delta
from proxy.runtime.process import Spooling
from proxy.telemetry.counters import Counters

Statuses: TypeAlias = Mapping[str, BreakerStatus]
Action: TypeAlias = Literal["open", "close", "auto"]

# -- down


@dataclass(frozen=True, slots=True)
class Begin:
    """Said first: what holds for the worker's whole life."""

    spooling: Spooling
    inputs_per_s: int  # how many decision inputs it may tell, about


@dataclass(frozen=True, slots=True)
class Apply:
    """Serve by this policy, the worker's share already. Confirmed by `Applied`."""

    sequence: int
    policy: Policy
    keeps_popularity: bool  # the list is as it was: left out here, since it can be large

    @classmethod
    def brief(cls, sequence: int, policy: Policy) -> "Apply":
        """For whoever has the popularity list already."""
        return cls(sequence, replace(policy, popularity=()), keeps_popularity=True)


@dataclass(frozen=True, slots=True)
class Command:
    """A breaker, moved by hand. Confirmed by `Applied`."""

    sequence: int
    breaker: str
    action: Action
    reason: str


@dataclass(frozen=True, slots=True)
class Listen:
    """Accept at these doors and no others; a door is a number that `doors` gave. Answered by `Listening`."""

    doors: frozenset[int]


@dataclass(frozen=True, slots=True)
class Level:
    """Leave out log lines below this level (e.g. "info")."""

    level: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Take no more connections, end with the last request."""


# -- up


@dataclass(frozen=True, slots=True)
class Applied:
    """Everything up to `sequence` holds with the next request."""

    sequence: int
    breakers: Statuses


@dataclass(frozen=True, slots=True)
class Listening:
    """It carries traffic."""


@dataclass(frozen=True, slots=True)
class Counted:
    """All counted so far, and signals and inputs of decisions since the last time; also the sign of life."""

    counters: Counters
    breakers: Statuses
    signals: Delta
    inputs: tuple[Input, ...] = ()


@dataclass(frozen=True, slots=True)
class Moved:
    """A breaker of this worker has changed its state."""

    change: Transition


Down: TypeAlias = Begin | Apply | Command | Listen | Level | Drain
Up: TypeAlias = Applied | Listening | Counted | Moved

_LENGTH = struct.Struct(">I")


def frame(message: Down | Up) -> bytes:
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Down | Up]:
        """Every message that is whole by now."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(buffer)[0]
            if len(buffer) < end:
                return
            body = bytes(buffer[_LENGTH.size : end])
            del buffer[:end]
            yield pickle.loads(body)  # noqa: S301 - only our own processes hold the other end
