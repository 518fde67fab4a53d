"""Decisions on recommend routes: for each that occurs, the route bound as it says."""

from copy import copy

from proxy.core.decide import MAX_LAID, Decider
from proxy.core.decision import KILLED, Decision, Laid, killed_by
from proxy.core.identity import IdentityReader, Who
from proxy.core.policy import Policy
from proxy.core.popularity import Popularity
from proxy.core.recommend import PopularAnswers
from proxy.core.rollback.layers import Layers
from proxy.core.scopes import Scopes
from proxy.dataplane.binding import Bound
from proxy.dataplane.faults import Faults
from proxy.dataplane.memory import Memory
from proxy.dataplane.remembering import Remembering
from proxy.dataplane.request_head import RequestHead


class Deciding:
    """What the decisions of one policy have in common."""

    def __init__(
        self,
        policy: Policy,
        popularity: Popularity,
        previous: "Deciding | None",
        remembering: Remembering | None = None,
        memory: Memory | None = None,
    ) -> None:
        toggles = policy.toggles
        self._faults = None if policy.drill is None else Faults(policy.drill)
        self._remembering = remembering
        self._memory = memory
        self._policy = policy
        self._popularity = popularity
        # By its labels only: ten thousand rules must not keep as many renderings of one answer.
        self._answers: dict[tuple[str, bool, str, float], PopularAnswers] = {}
        # A kill changes no rule, and should not wait for ten thousand of them to be sorted.
        self.scopes: Scopes = Scopes.of(toggles, None if previous is None else previous.scopes)

    def bind(self, bound: Bound) -> None:
        """Complete a recommend route; until anything else is decided it answers as if killed."""
        policy = self._policy
        killed = killed_by(policy)
        if killed is not None:
            bound.decision = killed
        bound.answers(self._popular(KILLED))
        if policy.experiment.name and not policy.toggles.experiment_freeze:
            bound.remembering = self._remembering
        if self._memory is not None:
            bound.memory = self._memory
        choices = self._choices(bound, policy.layers)
        if choices.decider.fixed is not None:
            choices.fixed = self.bound(bound, choices.decider.fixed)
        if policy.drill is not None:
            drilled = copy(bound)
            drilled.faults = self._faults
            choices.drilled = self._choices(drilled, policy.drill.layers)

    def _choices(self, bound: Bound, layers: Layers) -> "Choices":
        policy = self._policy
        decider = Decider(
            bound.route,
            policy.toggles,
            policy.experiment,
            self.scopes,
            seen=self._remembering,
            held=policy.held,
            layers=layers,
        )
        bound.choices = Choices(bound, decider, self)
        return bound.choices

    def bound(self, route: Bound, decision: Decision) -> Bound:
        """The route as it serves this decision."""
        return route.under(decision, self._popular(decision))

    def seldom(self, route: Bound, decision: Decision) -> Bound:
        """The same for one of any number of decisions: nothing is kept of it."""
        return route.under(decision, self._rendering(decision))

    def _popular(self, decision: Decision) -> PopularAnswers:
        labels = decision.arm, decision.exposed, decision.policy, decision.alpha
        found = self._answers.get(labels)
        if found is None:
            found = self._answers[labels] = self._rendering(decision)
        return found

    def _rendering(self, decision: Decision) -> PopularAnswers:
        return PopularAnswers(self._popularity, decision, toggles_version=self._policy.toggles.version)


class Choices:
    """One route and its decisions."""

    __slots__ = ("_bound", "_deciding", "_known", "_laid", "decider", "drilled", "fixed")

    def __init__(self, bound: Bound, decider: Decider, deciding: Deciding) -> None:
        self._bound = bound
        self.decider = decider
        self._deciding = deciding
        self._known: dict[int, Bound] = {}  # by the decision's identity: the decider keeps them all
        self._laid: dict[Decision, Bound] = {}
        self.fixed: Bound | None = None
        """The route as it serves everybody, where that is one decision."""
        self.drilled: Choices | None = None
        """The same for requests of the drill that is on."""

    def of(self, head: RequestHead, identity: IdentityReader) -> Bound:
        """The route as it serves this request, whose user and bucket are known."""
        who = identity.who(head.user, head.fields, head.query)
        decision = self.decider.decide(who, head.user or head.request_id, head.bucket)
        found = self._known.get(id(decision))
        if found is None:
            found = self._known[id(decision)] = self._deciding.bound(self._bound, decision)
        return found

    def under(self, head: RequestHead, who: Who, laid: Laid) -> Bound:
        """The same with something laid over the toggles."""
        decision = self.decider.decide(who, head.user or head.request_id, head.bucket, laid)
        found = self._laid.get(decision)
        if found is None:
            if len(self._laid) >= MAX_LAID:
                self._laid.clear()
            found = self._laid[decision] = self._deciding.seldom(self._bound, decision)
        return found
