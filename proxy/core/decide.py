"""What a request for recommendations gets: one decision, with its reason (facts 2.10).

Everything that toggles, experiment and route can lead to is worked out once per policy; a request
looks up its row. The order of precedence stands in `_served`, from the top down.
"""

from bisect import bisect_right
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

from proxy.core.decision import ASKS, KILLED, NOTHING_LAID, POPULARITY, Decision, Laid
from proxy.core.experiment import CONTROL, NO_ARM, Arm, Experiment, bounds, hundredths
from proxy.core.flaps import EXPOSURE, HeldBack, Place, Ranges
from proxy.core.identity import Who
from proxy.core.policy import Route
from proxy.core.rollback.layers import (
    NO_LAYERS,
    NO_PATCH,
    RECOVERED,
    Covers,
    Layers,
    Patch,
    laid_over,
    stricter,
)
from proxy.core.routing import BUCKETS, bucket
from proxy.core.scopes import NO_RULE, Scopes
from proxy.core.toggles import COHORT_ALPHAS, DEFAULTS, UNKNOWN_USER, Mode, Toggles

_ALONE: Mapping[str, tuple[Mode, float]] = {"cf": ("collab_only", 1.0), "content": ("content_only", 0.0)}
FROZEN = "experiment_freeze"
HELD = "flap_budget"
_COLD = UNKNOWN_USER.encode()


MAX_LAID = 256
"""Tables kept of toggles with something laid over them."""


class _Table(NamedTuple):
    """Every decision under the same toggles."""

    exposed: int  # buckets below are
    control: Decision
    held: Decision
    bounds: Sequence[int]  # of the arms; empty where the arm makes no difference
    arms: Sequence[Mapping[bytes, Decision]]  # by arm, then cohort; b"" stands for those not named
    new: Mapping[bytes, Decision] | None  # by cohort, for who is first seen after a freeze


At: TypeAlias = tuple[int, bool, int]
"""Where a request is: the index of the scoped rule that is for it, whether the document is, and the
index of the patch, `RECOVERED` or `NO_PATCH`."""
_EVERYBODY: At = (NO_RULE, True, NO_PATCH)


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
        layers: Layers = NO_LAYERS,
    ) -> None:
        """`scopes` are those of `toggles`, which several routes share; `seen` are the users known before a
        freeze, asked while it lasts (facts 2.13). None: everybody is. `held` are buckets that the flap
        budget keeps in control; `layers` lie over the toggles.
        """
        self._route = route
        self._toggles = toggles
        self._arms: Sequence[Arm | None] = experiment.arms if experiment.name else (None,)
        self._bounds = bounds(experiment.arms) if experiment.name else ()
        self._salt = experiment.salted
        self._scopes = scopes
        self._freezes = seen is not None
        self._seen: Container[bytes] = () if seen is None else seen
        self._held = HeldBack(held, scopes.rules) if held else None
        self._covers = Covers(layers) if layers else None
        self._tables: dict[At, _Table] = {}
        self._laid: dict[tuple[At, Laid], _Table] = {}
        self.fixed = self._fixed()
        """The decision, where all requests get the same."""

    def decide(self, who: Who, key: bytes, exposure: int, laid: Laid = NOTHING_LAID) -> Decision:
        """For a request of `who` in the bucket `exposure`; `key` made the bucket: the user or request id."""
        user, region, cohort, client = who
        if not cohort and not user:
            cohort = _COLD
        scopes = self._scopes
        at = _EVERYBODY
        if not scopes.everybody:
            at = scopes.rule(region, cohort, client), scopes.covers(region, cohort, client), NO_PATCH
        if self._covers is not None:
            at = *at[:2], self._covers.at(region, cohort, client, exposure)
        if laid is NOTHING_LAID:
            table = self._tables.get(at) or self._table(at)
        else:
            table = self._laid.get((at, laid)) or self._laid_table(at, laid)
        exposed, control, in_control, bounds, arms, new = table
        if exposure >= exposed:
            return control
        held = self._held
        if held and user and not laid.exposes and held.holds(exposure, at[:2], (region, cohort, client)):
            return in_control
        if not bounds:
            choices = arms[0]
        elif new is not None and user and user not in self._seen:
            choices = new
        else:
            choices = arms[bisect_right(bounds, bucket(key, self._salt))]
        return choices.get(cohort) or choices[b""]

    def place(self, who: Who, exposure: int) -> At:
        """Where a request of `who` in the bucket `exposure` is."""
        segments = who.region, who.cohort or (b"" if who.user else _COLD), who.client
        patch = NO_PATCH if self._covers is None else self._covers.at(*segments, exposure)
        return self._scopes.rule(*segments), self._scopes.covers(*segments), patch

    def effective(self, at: At, laid: Laid = NOTHING_LAID) -> Toggles:
        """The toggles that hold there."""
        rule, inside, _ = at
        toggles = self._toggles if inside else DEFAULTS
        if rule != NO_RULE:
            toggles = replace(toggles, **self._scopes.rules[rule].toggles)
        if (patch := self._patch(at)) is not None:
            toggles = laid_over(toggles, patch)
        return replace(toggles, **dict(laid.toggles)) if laid.toggles else toggles

    def _patch(self, at: At) -> Patch | None:
        return self._covers.patches[at[2]] if self._covers is not None and at[2] >= 0 else None

    def _fixed(self) -> Decision | None:
        if self._toggles.kill_switch:
            return KILLED
        at = _EVERYBODY
        if self._covers is not None:
            if not self._covers.one:
                return None
            at = NO_RULE, True, 0
            if self.effective(at).kill_switch:
                return self._table(at).control
        if not self._scopes.everybody:
            return None
        table = self._table(at)
        if not table.exposed:
            return table.control
        if self._held is None and table.exposed == BUCKETS and not table.bounds and len(table.arms[0]) == 1:
            return table.arms[0][b""]
        return None

    def _table(self, at: At) -> _Table:
        """Made when it is first asked for: of ten thousand rules few apply at a time."""
        table = self._tables[at] = self._made(at, NOTHING_LAID)
        return table

    def _laid_table(self, at: At, laid: Laid) -> _Table:
        if len(self._laid) >= MAX_LAID:
            self._laid.clear()
        table = self._laid[at, laid] = self._made(at, laid)
        return table

    def _made(self, at: At, laid: Laid) -> _Table:
        in_force = self.effective(at, laid)
        patch = self._patch(at)
        mode = laid.mode
        toggles = in_force if mode is None else mode.over(in_force)
        if mode is not None and patch is not None and not (patch.exact or laid.toggles):
            # A page keeps its mode, but for what a stage has closed since.
            toggles = stricter(toggles, {**patch.toggles, EXPOSURE: 100.0})
        marks: dict[str, Any] = {
            "rule": at[0],
            "aside": laid.aside,
            "stage": "" if patch is None else patch.stage,
            "recovered": at[2] == RECOVERED,
            "enrols": patch is None or not in_force.experiment_freeze,
        }
        if in_force.kill_switch:
            killed = replace(KILLED, **marks)
            return _Table(BUCKETS, killed, killed, (), ({b"": killed},), None)

        def told(decision: Decision) -> Decision:
            decision = replace(decision, **marks)
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
        frozen = self._freezes and (self._toggles.experiment_freeze or in_force.experiment_freeze)
        return _Table(
            hundredths(toggles.exposure_percent),
            control,
            replace(control, reason=HELD),
            () if alike else self._bounds,
            arms[:1] if alike else arms,
            {cohort: replace(it, reason=FROZEN) for cohort, it in new.items()} if frozen else None,
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
    wanted = [kind for kind in offered if kind in ASKS[mode]]
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
