"""What services need from outside, as Protocols; adapters below `runtime` fill them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from proxy.core.breaker import BreakerStatus
from proxy.core.policy import Policy
from proxy.core.roles import Principal, Rejected
from proxy.errors import FuseboxError

T = TypeVar("T")


class StoreError(FuseboxError):
    """A store could not be read or written; the text names the file and the cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KillDecision:
    """The last word on the kill switch: what, why, by whom, when (RFC 3339, UTC)."""

    kill: bool
    reason: str
    by: str
    at: str
    version: int = 0
    """The one of the toggles that it made, so that numbers grow on over a restart; 0: not known."""


class KillStore(Protocol):
    """Where the last kill decision outlives the process. Both calls may block on a disk."""

    def load(self) -> KillDecision | None:
        """The last decision, None when there never was one; StoreError when it cannot be known."""

    def save(self, decision: KillDecision) -> None:
        """Return only when the decision is durable; StoreError leaves the former one in place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastGood(Generic[T]):
    """What was kept; `trouble` says what is wrong with the newest when it is the one before."""

    found: T
    trouble: str


class Writing(Protocol):
    """New content that is durable, and not in force yet. Both calls may block on a disk."""

    def commit(self) -> None:
        """It takes the place of the old; StoreError."""

    def discard(self) -> None: ...


class LastGoodToggles(Protocol):
    """The last good toggles, out of reach of the store. Both calls may block on a disk."""

    def load(self, understand: Callable[[bytes], T]) -> LastGood[T] | None:
        """What `understand` makes of it, which raises ValueError when it cannot; None when there never was
        any. StoreError when there is something and nobody can tell what.
        """

    def prepare(self, content: bytes) -> Writing:
        """StoreError changes nothing."""


class RollbackStore(Protocol):
    """Where the state of the rollback outlives the process. Both calls may block on a disk."""

    def load(self, understand: Callable[[bytes], T]) -> LastGood[T] | None:
        """As `LastGoodToggles.load`."""

    def save(self, content: bytes) -> None:
        """Return only when it is durable; StoreError leaves the former one in place."""


class TokenStore(Protocol):
    """Whom a bearer token stands for."""

    def verify(self, token: str) -> Principal | Rejected:
        """StoreError when no token can be judged."""


class PolicyTarget(Protocol):
    """What carries traffic by a policy: the data plane."""

    @property
    def policy(self) -> Policy: ...

    def apply(self, policy: Policy) -> None:
        """Effective with the next request; never waits."""

    async def settled(self) -> None:
        """Return when no request that comes from now on can meet an older policy.

        Bounded, a few seconds at most: whoever cannot follow by then is taken out of traffic.
        """


class BreakerHandle(Protocol):
    """One breaker as an operator sees it. Times are monotonic seconds."""

    def open(self, now: float, reason: str) -> None: ...
    def close(self, now: float, reason: str) -> None: ...
    def auto(self, now: float, reason: str) -> None: ...
    def snapshot(self, now: float) -> BreakerStatus: ...


class BreakerHolder(Protocol):
    """What owns the breakers; the mapping is read anew each time, since a reload changes it."""

    @property
    def breakers(self) -> Mapping[str, BreakerHandle]: ...

    async def settled(self) -> None:
        """Return when every command given so far is in force, and shown by `snapshot`."""


class Plane(PolicyTarget, BreakerHolder, Protocol):
    """The data plane as the status page sees it."""

    @property
    def draining(self) -> bool: ...


class UpstreamTraffic(Protocol):
    """What is under way to one upstream at this moment, and what there has been."""

    @property
    def inflight(self) -> int: ...
    @property
    def queued(self) -> int: ...
    @property
    def outcomes(self) -> Mapping[str, int]: ...
    @property
    def buckets(self) -> Sequence[int]:
        """Of latencies to the first byte; together they are the calls whose latency is known."""

    @property
    def seconds(self) -> float:
        """Those latencies, added up."""


class ShadowTraffic(Protocol):
    """What became of the copies of one route's requests. Sums, of the answers that were compared."""

    @property
    def results(self) -> Mapping[str, int]: ...
    @property
    def overlap(self) -> Sequence[int]:
        """Of their buckets; together they are the answers whose items were compared."""

    @property
    def overlap_sum(self) -> float: ...
    @property
    def rank_sum(self) -> float: ...
    @property
    def real_seconds(self) -> float: ...
    @property
    def seconds(self) -> float: ...


class Traffic(Protocol):
    """What is under way at this moment, and what there has been."""

    @property
    def connections(self) -> int: ...
    @property
    def upstreams(self) -> Mapping[str, UpstreamTraffic]: ...
    @property
    def cache(self) -> Mapping[str, int]:
        """Sources that were to be asked, by what the cache had."""

    @property
    def shadows(self) -> Mapping[str, ShadowTraffic]: ...
