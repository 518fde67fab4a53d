"""Decisions on recommend routes: for each that occurs, the route bound as it says."""

from collections.abc import Mapping
from typing import Any

from proxy.core.decide import KILLED, Decider, Decision
from proxy.core.identity import IdentityReader
from proxy.core.policy import Policy
from proxy.core.popularity import Popularity
from proxy.core.recommend import PopularAnswers
from proxy.core.scopes import Scopes
from proxy.dataplane.binding import Bound
from proxy.dataplane.request_head import RequestHead


class Deciding:
    """What the decisions of one policy have in common."""

    def __init__(
        self,
        policy: Policy,
        popularity: Popularity,
        previous: "Deciding | None",
        *,
        over: Mapping[str, Any] | None = None,
    ) -> None:
        """`over` are toggles laid over those of every request."""
        toggles = policy.toggles
        self._policy = policy
        self._popularity = popularity
        self._over = over or {}
        # By its labels only: ten thousand rules must not keep as many renderings of one answer.
        self._answers: dict[tuple[str, bool, str, float], PopularAnswers] = {}
        # A kill changes no rule, and should not wait for ten thousand of them to be sorted.
        self.scopes: Scopes = Scopes.of(toggles, None if previous is None else previous.scopes)

    def bind(self, bound: Bound) -> None:
        """Complete a recommend route; until anything else is decided it answers as if killed."""
        policy = self._policy
        if policy.toggles.kill_switch:
            bound.decision = KILLED
        bound.popular = self._popular(KILLED)
        decider = Decider(bound.route, policy.toggles, policy.experiment, self.scopes, self._over)
        bound.choices = Choices(bound, decider, self)

    def bound(self, route: Bound, decision: Decision) -> Bound:
        """The route as it serves this decision."""
        return route.under(decision, self._popular(decision))

    def _popular(self, decision: Decision) -> PopularAnswers:
        labels = decision.arm, decision.exposed, decision.policy, decision.alpha
        found = self._answers.get(labels)
        if found is None:
            found = self._answers[labels] = PopularAnswers(
                self._popularity, decision, toggles_version=self._policy.toggles.version
            )
        return found


class Choices:
    """One route and its decisions."""

    __slots__ = ("_bound", "_decider", "_deciding", "_known", "fixed")

    def __init__(self, bound: Bound, decider: Decider, deciding: Deciding) -> None:
        self._bound = bound
        self._decider = decider
        self._deciding = deciding
        self._known: dict[int, Bound] = {}  # by the decision's identity: the decider keeps them all
        self.fixed = None if decider.fixed is None else deciding.bound(bound, decider.fixed)
        """The route as it serves everybody, where that is one decision."""

    def of(self, head: RequestHead, identity: IdentityReader) -> Bound:
        """The route as it serves this request, whose user and bucket are known."""
        who = identity.who(head.user, head.fields, head.query)
        decision = self._decider.decide(who, head.user or head.request_id, head.bucket)
        found = self._known.get(id(decision))
        if found is None:
            found = self._known[id(decision)] = self._deciding.bound(self._bound, decision)
        return found
