"""What a change of toggles would do: requests of the last minutes decided again, under both policies.

Both sides are `core.decide`; nothing here decides. Load is what decisions ask for.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from proxy.core.capacity import NOTHING, SLOT_S, Shown
from proxy.core.decide import HELD, Decider
from proxy.core.decision import Decision, killed_by
from proxy.core.inputs import Input
from proxy.core.policy import Policy, Route
from proxy.core.scopes import Scopes
from proxy.core.toggles import Level

Verdict = Literal["fits", "exceeds", "unknown"]

MOST_MOVES = 20
_WORST: tuple[Verdict, ...] = ("exceeds", "unknown", "fits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """How some requests are served: what `core.decide.Decision` says that anybody can notice."""

    policy: str
    arm: str
    level: Level
    sources: tuple[str, ...]
    alpha: float
    exposed: bool

    @classmethod
    def by(cls, decision: Decision) -> "Served":
        return cls(**{name: getattr(decision, name) for name in ASPECTS})


ASPECTS = tuple(Served.__slots__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Requests that would be served in another way, and the users they are of."""

    before: Served
    after: Served
    users: int
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """How many users would get something else: anything at all, and each aspect by itself."""

    users: int
    policy: int
    arm: int
    level: int
    sources: int
    alpha: int
    exposed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Calls a second of one upstream, as decisions ask for them: without retries and further rounds.

    Of reads through the cache so many count as went on to a source in the last minutes; where that is not
    known, or a source would be read through the cache that was not before, all.
    """

    upstream: str
    before_per_s: float
    after_per_s: float
    busiest_before_per_s: float  # over 10 s
    busiest_after_per_s: float
    shown_per_s: float | None  # the most it answered over 10 s in the last hour
    limit_per_s: float | None  # max_inflight ÷ its latency: more than that it cannot be sent
    verdict: Verdict
    says: str  # empty: it fits


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What would have been otherwise."""

    span_s: float  # from the oldest request to now
    requests: int
    replayed: int  # fewer where requests were sampled
    users: int  # of those replayed; who has no user id is nobody
    exposed_before: int  # users
    exposed_after: int
    changed: Changed
    moves: tuple[Move, ...]  # by requests, the most first
    more_moves: int  # left out
    upstreams: tuple[Load, ...]
    cache_missed: float | None  # share of the cache's reads that went on to a source; None: nothing was read
    verdict: Verdict
    says: tuple[str, ...]  # why it does not simply fit, and who is kept from it


@dataclass(slots=True)
class _Group:
    """Requests of one route that are served alike before, and alike after."""

    route: Route
    before: Decision
    after: Decision
    differing: tuple[str, ...]
    """Aspects."""
    requests: int = 0
    users: set[bytes] = field(default_factory=set)
    slots: dict[int, int] = field(default_factory=lambda: defaultdict(int))  # requests by age


class Replay:
    """`add` in as many pieces as it takes, then `report` once."""

    def __init__(
        self, before: Policy, after: Policy, now: float, seen: Container[bytes] | None = None
    ) -> None:
        """`now` is monotonic; `seen` as `Decider` has it."""
        self._now = now
        self._after = after
        self._killed = bool(killed_by(before) and killed_by(after))
        self._held: set[bytes] = set()
        scopes = Scopes.of(before.toggles, None)
        befores = _deciders(before, scopes, seen)
        afters = _deciders(after, Scopes.of(after.toggles, scopes), seen)
        # Requests of a route that only one of the policies has cannot be compared.
        self._deciders = {name: (befores[name], afters[name]) for name in befores if name in afters}
        self._routes = {route.name: route for route in after.routes}
        self._pairs: dict[tuple[str, int, int], _Group] = {}  # by identity: the deciders keep them all
        self._groups: dict[tuple[object, ...], _Group] = {}
        self._oldest = now
        self._replayed = 0
        self._weight = 0

    def add(self, inputs: Iterable[Input]) -> None:
        for one in inputs:
            self._weight += one.weight
            found = self._deciders.get(one.route)
            if found is None:
                continue
            before, after = (it.fixed or it.decide(one.who, one.key, one.bucket) for it in found)
            if after.reason == HELD:
                self._held.add(one.who.user)
            at = one.route, id(before), id(after)
            group = self._pairs.get(at)
            if group is None:
                group = self._pairs[at] = self._group(one.route, before, after)
            group.requests += one.weight
            group.slots[int((self._now - one.at) // SLOT_S)] += one.weight
            if one.who.user:
                group.users.add(one.who.user)
            self._oldest = min(self._oldest, one.at)
            self._replayed += 1

    def _group(self, route: str, before: Decision, after: Decision) -> _Group:
        """Rules and reasons tell decisions apart that nobody else can."""
        served = Served.by(before), Served.by(after)
        key = route, *served, before.calls, after.calls, before.cache_mode, after.cache_mode
        found = self._groups.get(key)
        if found is None:
            differing = tuple(it for it in ASPECTS if getattr(before, it) != getattr(after, it))
            found = self._groups[key] = _Group(self._routes[route], before, after, differing)
        return found

    def report(
        self, shown: Mapping[str, Shown], missed: float | None = None, requests: int | None = None
    ) -> Preview:
        """`shown` by upstream; one that is missing has shown nothing. `missed` as in `Preview`.

        `requests` are all that those added stand for; None: their own weights.
        """
        scale = 1.0 if requests is None or not self._weight else requests / self._weight
        groups = self._groups.values()
        upstreams = tuple(self._loads(shown, 1.0 if missed is None else missed, scale))
        moves = _moves(groups, scale)
        says = tuple(load.says for load in upstreams if load.says)
        verdicts = {load.verdict for load in upstreams}
        if not self._replayed:
            verdicts = {"unknown"}
            says = ("no request for recommendations came in the last minutes, so nothing can be told",)
        says = (*self._kept_from_it(), *says)
        return Preview(
            span_s=round(self._now - self._oldest, 3),
            requests=round(sum(group.requests for group in groups) * scale),
            replayed=self._replayed,
            users=len(_users(groups)),
            exposed_before=len(_users(group for group in groups if group.before.exposed)),
            exposed_after=len(_users(group for group in groups if group.after.exposed)),
            changed=_changed(groups),
            moves=moves[:MOST_MOVES],
            more_moves=len(moves[MOST_MOVES:]),
            upstreams=upstreams,
            cache_missed=missed if missed is None else round(missed, 4),
            verdict=next((it for it in _WORST if it in verdicts), "fits"),
            says=says,
        )

    def _kept_from_it(self) -> Iterable[str]:
        if self._killed:
            yield "the kill switch is on: nothing changes until it is released"
        if held := len(self._held):
            who = "1 user stays" if held == 1 else f"{held} users stay"
            yield f"{who} in control by the flap budget, for an hour at most"

    def _loads(self, shown: Mapping[str, Shown], missed: float, scale: float) -> Iterable[Load]:
        span_s = max(self._now - self._oldest, 1.0)
        names = {name for route in self._deciders for name in _upstreams(self._routes[route]) if name}
        calls = {name: (_Calls(span_s), _Calls(span_s)) for name in sorted(names)}
        for group in self._groups.values():
            for side, decision in enumerate((group.before, group.after)):
                for kind in decision.calls:
                    share = missed if _read_through(group.before, decision, kind) else 1.0
                    calls[getattr(group.route.sources, kind)][side].add(group, share * scale)
        for name, (before, after) in calls.items():
            most = self._after.upstreams[name].max_inflight
            yield _load(name, before, after, shown.get(name, NOTHING), most)


class _Calls:
    """Calls of one upstream on one side."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._requests = 0.0
        self._slots: dict[int, float] = defaultdict(float)

    def add(self, group: _Group, share: float) -> None:
        self._requests += group.requests * share
        for slot, requests in group.slots.items():
            self._slots[slot] += requests * share

    @property
    def per_s(self) -> float:
        return self._requests / self._span_s

    @property
    def busiest_per_s(self) -> float:
        """Over 10 s, or the whole time where that is shorter."""
        most = max(self._slots.values(), default=0)
        return self.per_s if self._span_s < SLOT_S else most / SLOT_S


def _deciders(policy: Policy, scopes: Scopes, seen: Container[bytes] | None) -> dict[str, Decider]:
    return {
        route.name: Decider(
            route,
            policy.toggles,
            policy.experiment,
            scopes,
            seen=seen,
            held=policy.held,
            layers=policy.layers,
        )
        for route in policy.routes
        if route.kind == "recommend"
    }


def _upstreams(route: Route) -> tuple[str, ...]:
    return route.sources.cf, route.sources.content, route.sources.control


def _read_through(before: Decision, decision: Decision, kind: str) -> bool:
    """Whether the cache is read as it is now: of anything else nobody knows what it would have."""
    return decision.cache_mode == before.cache_mode == "prewarm" and kind in before.calls


def _users(groups: Iterable[_Group]) -> set[bytes]:
    return set[bytes]().union(*(group.users for group in groups))


def _changed(groups: Iterable[_Group]) -> Changed:
    counts = {name: len(_users(it for it in groups if name in it.differing)) for name in ASPECTS}
    return Changed(users=len(_users(it for it in groups if it.differing)), **counts)


def _moves(groups: Iterable[_Group], scale: float) -> tuple[Move, ...]:
    """Groups that only routes tell apart are one move."""
    alike: dict[tuple[Served, Served], list[_Group]] = defaultdict(list)
    for group in groups:
        if group.differing:
            alike[Served.by(group.before), Served.by(group.after)].append(group)
    moves = (
        Move(
            before=before,
            after=after,
            users=len(_users(of)),
            requests=round(sum(group.requests for group in of) * scale),
        )
        for (before, after), of in alike.items()
    )
    return tuple(sorted(moves, key=lambda move: -move.requests))


def _load(name: str, before: _Calls, after: _Calls, shown: Shown, max_inflight: int) -> Load:
    """A load that does not rise is no matter of this change, whatever the upstream can take."""
    limit = max_inflight / shown.latency_s if shown.latency_s else None
    asked = after.busiest_per_s
    would = f"{name} would get {asked:.4g} calls a second in its busiest 10 s"
    verdict: Verdict = "fits"
    says = ""
    if asked > before.busiest_per_s:
        if limit is not None and asked > limit:
            verdict = "exceeds"
            says = f"{would}: its max_inflight of {max_inflight} lets through {limit:.4g} at its latency"
        elif shown.per_s is None:
            verdict, says = "unknown", f"{would}: it answered none in the last hour, so nobody knows"
        elif asked > shown.per_s:
            verdict = "exceeds"
            says = f"{would}: the most it answered in the last hour is {shown.per_s:.4g}"
    return Load(
        upstream=name,
        before_per_s=round(before.per_s, 3),
        after_per_s=round(after.per_s, 3),
        busiest_before_per_s=round(before.busiest_per_s, 3),
        busiest_after_per_s=round(asked, 3),
        shown_per_s=None if shown.per_s is None else round(shown.per_s, 3),
        limit_per_s=None if limit is None else round(limit, 3),
        verdict=verdict,
        says=says,
    )
