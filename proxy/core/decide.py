"""What a request for recommendations gets: one decision, with its reason (facts 2.10).

Everything that toggles, experiment and route can lead to is worked out once per policy; a request
looks up its row. The order of precedence stands in `_served`, from the top down.
"""

from bisect import bisect_right
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

from proxy.core.experiment import CONTROL, NO_ARM, Arm, Experiment, bounds, hundredths
from proxy.core.flaps import EXPOSURE, HeldBack, Place, Ranges
from proxy.core.identity import Who
from proxy.core.policy import Route
from proxy.core.routing import BUCKETS, bucket
from proxy.core.scopes import NO_RULE, Scopes
from proxy.core.toggles import COHORT_ALPHAS, DEFAULTS, UNKNOWN_USER, CacheMode, Level, Mode, Toggles

POPULARITY = "popularity"

_ASKS: Mapping[Mode, tuple[str, ...]] = {
    "hybrid_default": ("cf", "content"),
    "bucket_gate": ("cf", "content"),
    "content_only": ("content",),
    "collab_only": ("cf",),
}
_ALONE: Mapping[str, tuple[Mode, float]] = {"cf": ("collab_only", 1.0), "content": ("content_only", 0.0)}
FROZEN = "experiment_freeze"
HELD = "flap_budget"
_COLD = UNKNOWN_USER.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How one request is served, as far as that is decided before anybody is asked."""

    reason: str
    """What had the last word: toggles, by precedence, `experiment`, `default` or `no sources`."""
    policy: str
    """What is done: a policy mode, or `kill_switch`, `control`, `popularity`."""
    sources: tuple[str, ...] = ()
    """Whom to ask; nobody: the answer comes from the popularity list."""
    alpha: float = 0.0
    """The weight of cf."""
    level: Level = "D"
    """The best that the answer can be (facts 2.10)."""
    expands: bool = False
    """Content may be asked for neighbours of what was offered (level B)."""
    arm: str = NO_ARM
    exposed: bool = True
    rule: int = NO_RULE
    """The index of the scoped rule that applies."""
    cache_mode: CacheMode = "cold"
    """Whether sources are asked, or the cache in their place (facts 2.15)."""
    aside: str = ""
    """Why the request must not be judged, and counts in columns of its own: `override`, `drill`, `mirror`,
    `warm`; empty: it is traffic like all (facts 2.18)."""

    @property
    def calls(self) -> tuple[str, ...]:
        """The sources that may be called: with `warm_only` the cache alone is asked."""
        return () if self.cache_mode == "warm_only" else self.sources

    @property
    def judged(self) -> bool:
        """Whether the answer says something about the recommender (facts 2.18)."""
        return self.exposed and bool(self.sources)


KILLED = Decision(reason="kill_switch", policy="kill_switch")
UNDECIDED = Decision(reason="", policy="")
"""What holds for a request that is refused before anything is decided, or forwarded."""


CURSOR = "cursor"
"""What decides further pages."""


class ServingMode(NamedTuple):
    """What of a decision the further pages of its answer keep."""

    exposed: bool
    arm: str
    policy: str
    alpha: float
    level: Level
    expands: bool = True

    @classmethod
    def of(cls, decision: Decision) -> "ServingMode":
        return cls(
            decision.exposed,
            decision.arm,
            decision.policy,
            decision.alpha,
            decision.level,
            decision.expands,
        )

    def over(self, toggles: Toggles) -> Toggles:
        """Toggles that lead to it. What these disable stays so, and of two ceilings the lower one holds."""
        if not self.exposed:
            return replace(toggles, exposure_percent=0)
        toggles = replace(toggles, exposure_percent=100)
        if self.policy not in _ASKS:
            return replace(toggles, candidate_fallback_level="D")
        return replace(
            toggles,
            policy_mode=cast("Mode", self.policy),
            alpha_override=self.alpha,
            candidate_fallback_level=max(self.level, toggles.candidate_fallback_level),
        )

    def kept(self, decision: Decision, toggles: Toggles) -> Decision:
        """The decision that `over` the toggles in force led to, as one of this mode."""
        stricter = toggles.candidate_fallback_level > self.level
        reasons = [
            name
            for name in decision.reason.split(", ")
            if name.startswith(("disable_", "cache_")) or (stricter and name == "candidate_fallback_level")
        ]
        treated = not reasons and ServingMode.of(decision)[2:5] == self[2:5]
        return replace(
            decision,
            reason=", ".join((*reasons, CURSOR)),
            arm=self.arm if treated else decision.arm,
            expands=decision.expands and self.expands,
        )


class Laid(NamedTuple):
    """What is laid over the toggles for one request."""

    toggles: tuple[tuple[str, Any], ...] = ()
    aside: str = ""  # see `Decision`
    mode: ServingMode | None = None  # of a further page

    @property
    def exposes(self) -> bool:
        """It has an exposure of its own."""
        return self.mode is not None or any(name == EXPOSURE for name, _ in self.toggles)


NOTHING_LAID = Laid()
MAX_LAID = 256
"""Tables kept of toggles with something laid over them."""


class _Table(NamedTuple):
    """Every decision under the same toggles."""

    exposed: int  # buckets below are
    control: Decision
    held: Decision
    bounds: Sequence[int]  # of the arms; empty where the arm makes no difference
    arms: Sequence[Mapping[bytes, Decision]]  # by arm, then cohort; b"" stands for those not named
    new: Mapping[bytes, Decision]  # by cohort, for who is first seen after a freeze


class Decider:
    """The decisions of one recommend route under one policy."""

    def __init__(
        self,
        route: Route,
        toggles: Toggles,
        experiment: Experiment,
        scopes: Scopes,
        seen: Container[bytes] | None = None,
        held: Mapping[Place, Ranges] | None = None,
    ) -> None:
        """`scopes` are those of `toggles`, which several routes share; `seen` are the users known before a
        freeze, asked while it lasts (facts 2.13). None: everybody is. `held` are buckets that the flap
        budget keeps in control.
        """
        self._route = route
        self._toggles = toggles
        self._arms: Sequence[Arm | None] = experiment.arms if experiment.name else (None,)
        self._bounds = bounds(experiment.arms) if experiment.name else ()
        self._salt = experiment.salted
        self._scopes = scopes
        self._seen = seen if toggles.experiment_freeze else None
        self._held = HeldBack(held, scopes.rules) if held else None
        self._tables: dict[tuple[int, bool], _Table] = {}
        self._laid: dict[tuple[tuple[int, bool], Laid], _Table] = {}
        self.fixed = self._fixed()
        """The decision, where all requests get the same."""

    def decide(self, who: Who, key: bytes, exposure: int, laid: Laid = NOTHING_LAID) -> Decision:
        """For a request of `who` in the bucket `exposure`; `key` made the bucket: the user or request id."""
        region, cohort, client = who.region, who.cohort, who.client
        if not cohort and not who.user:
            cohort = _COLD
        scopes = self._scopes
        at = NO_RULE, True
        if not scopes.everybody:
            at = scopes.rule(region, cohort, client), scopes.covers(region, cohort, client)
        if laid is NOTHING_LAID:
            table = self._tables.get(at) or self._table(*at)
        else:
            table = self._laid.get((at, laid)) or self._laid_table(at, laid)
        if exposure >= table.exposed:
            return table.control
        held = self._held
        if held and who.user and not laid.exposes and held.holds(exposure, at, (region, cohort, client)):
            return table.held
        if not table.bounds:
            choices = table.arms[0]
        elif self._seen is not None and who.user and who.user not in self._seen:
            choices = table.new
        else:
            choices = table.arms[bisect_right(table.bounds, bucket(key, self._salt))]
        return choices.get(cohort) or choices[b""]

    def place(self, who: Who) -> tuple[int, bool]:
        """The index of the scoped rule that is for `who`, and whether the document is."""
        segments = who.region, who.cohort or (b"" if who.user else _COLD), who.client
        return self._scopes.rule(*segments), self._scopes.covers(*segments)

    def effective(self, rule: int, inside: bool, laid: Laid = NOTHING_LAID) -> Toggles:  # noqa: FBT001 - `place`
        """The toggles that hold there."""
        toggles = self._toggles if inside else DEFAULTS
        if rule != NO_RULE:
            toggles = replace(toggles, **self._scopes.rules[rule].toggles)
        return replace(toggles, **dict(laid.toggles)) if laid.toggles else toggles

    def _fixed(self) -> Decision | None:
        if self._toggles.kill_switch:
            return KILLED
        if not self._scopes.everybody:
            return None
        table = self._table(NO_RULE, inside=True)
        if not table.exposed:
            return table.control
        if self._held is None and table.exposed == BUCKETS and not table.bounds and len(table.arms[0]) == 1:
            return table.arms[0][b""]
        return None

    def _table(self, rule: int, inside: bool) -> _Table:  # noqa: FBT001 - half of a key
        """Made when it is first asked for: of ten thousand rules few apply at a time."""
        table = self._tables[rule, inside] = self._made(self.effective(rule, inside), rule, NOTHING_LAID)
        return table

    def _laid_table(self, at: tuple[int, bool], laid: Laid) -> _Table:
        if len(self._laid) >= MAX_LAID:
            self._laid.clear()
        table = self._laid[at, laid] = self._made(self.effective(*at, laid), at[0], laid)
        return table

    def _made(self, in_force: Toggles, rule: int, laid: Laid) -> _Table:
        mode = laid.mode
        toggles = in_force if mode is None else mode.over(in_force)

        def told(decision: Decision) -> Decision:
            decision = replace(decision, rule=rule, aside=laid.aside)
            return decision if mode is None else mode.kept(decision, in_force)

        served = [
            {
                cohort.encode(): told(_served(toggles, arm, cohort, self._route))
                for cohort in ("", *COHORT_ALPHAS)
            }
            for arm in self._arms
        ]
        arms = [
            {cohort: it for cohort, it in each.items() if it != each[b""] or not cohort} for each in served
        ]
        alike = all(each == arms[0] for each in arms)
        asks = bool(self._route.sources.control)
        control = told(
            Decision(
                reason="exposure_percent",
                policy=CONTROL,
                sources=(CONTROL,) if asks else (),
                level="A" if asks else "D",
                arm=CONTROL,
                exposed=False,
                cache_mode=toggles.cache_mode,
            )
        )
        # The experiment's own control where it has one, else what those get who are in no experiment.
        own = next((at for at, arm in enumerate(self._arms) if arm and arm.name == CONTROL), None)
        new = {b"": control} if own is None else arms[own]
        return _Table(
            hundredths(toggles.exposure_percent),
            control,
            replace(control, reason=HELD),
            () if alike else self._bounds,
            arms[:1] if alike else arms,
            {cohort: replace(it, reason=FROZEN) for cohort, it in new.items()},
        )


def _served(toggles: Toggles, arm: Arm | None, cohort: str, route: Route) -> Decision:
    """The decision for who is exposed; `cohort` "": none that is known."""
    offered = [kind for kind in ("cf", "content") if getattr(route.sources, kind)]
    if not offered:
        return Decision(reason="no sources", policy=POPULARITY)
    disabled = [f"disable_{kind}" for kind in offered if getattr(toggles, f"disable_{kind}")]
    left = [kind for kind in offered if f"disable_{kind}" not in disabled]
    if not left:
        return Decision(reason=", ".join(disabled), policy=POPULARITY)
    if toggles.candidate_fallback_level == "D":
        return Decision(reason="candidate_fallback_level", policy=POPULARITY)

    mode = toggles.policy_mode or (arm.policy_mode if arm else "hybrid_default")
    wanted = [kind for kind in offered if kind in _ASKS[mode]]
    asked = [kind for kind in wanted if kind in left] or left  # whoever is left has weight 1 (facts 2.1)
    reasons = [f"disable_{kind}" for kind in wanted if kind not in left]
    level = toggles.candidate_fallback_level
    if level != "A":
        reasons.append("candidate_fallback_level")
        if len(asked) > 1:
            asked = ["content"]  # which stands in for cf from B on
    if toggles.cache_mode == "warm_only":  # what is not in there is popularity
        reasons.append("cache_mode")
    if toggles.policy_mode:
        reasons.append("policy_mode")
    if len(asked) == 1:
        policy, alpha = _ALONE[asked[0]]
    else:
        policy, alpha = mode, route.alpha
        if toggles.alpha_override is not None:
            reasons.append("alpha_override")
            alpha = toggles.alpha_override
        elif mode == "bucket_gate":
            alpha = COHORT_ALPHAS.get(cohort, alpha)
    treated = arm is not None and not reasons and policy == arm.policy_mode
    return Decision(
        reason=", ".join(reasons) or ("experiment" if treated else "default"),
        policy=policy,
        sources=tuple(asked),
        alpha=alpha,
        level=level,
        expands="content" in left,
        arm=arm.name if arm is not None and treated else NO_ARM,
        cache_mode=toggles.cache_mode,
    )
