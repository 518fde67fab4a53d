"""Decisions: how one request is served, as far as that is decided before anybody is asked."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

from proxy.core.experiment import NO_ARM
from proxy.core.flaps import EXPOSURE
from proxy.core.policy import Policy
from proxy.core.rollback.drills import ASIDE as DRILL
from proxy.core.rollback.layers import killing
from proxy.core.rollback.signals import Side
from proxy.core.scopes import NO_RULE
from proxy.core.toggles import CacheMode, Level, Mode, Toggles

POPULARITY = "popularity"

ASKS: Mapping[Mode, tuple[str, ...]] = {
    "hybrid_default": ("cf", "content"),
    "bucket_gate": ("cf", "content"),
    "content_only": ("content",),
    "collab_only": ("cf",),
}
"""Whom each mode asks."""


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
    stage: str = ""
    """Of the patch that a rollback has laid over the toggles for this request; empty: none."""
    recovered: bool = False
    """It would lie there, had recovery not let this bucket out of it."""
    enrols: bool = True
    """The user counts as seen by the experiment; under a stage that freezes it nobody does (facts 2.13)."""

    @property
    def calls(self) -> tuple[str, ...]:
        """The sources that may be called: with `warm_only` the cache alone is asked."""
        return () if self.cache_mode == "warm_only" else self.sources

    @property
    def judged(self) -> bool:
        """Whether the answer says something about the recommender (facts 2.18)."""
        return self.exposed and bool(self.sources)

    @property
    def killed(self) -> bool:
        """Popularity from memory; no upstream is contacted (facts 2.9)."""
        return self.policy == KILLED.policy

    @property
    def side(self) -> Side:
        """Who judges the answer, as far as it is known by now."""
        aside = self.aside
        if aside and aside != DRILL:
            return cast("Side", aside)
        if not self.sources:
            return "drill_decided" if aside else "decided"
        if not self.exposed:
            return "drill_control" if aside else "control"
        if self.stage:
            return "drill_staged" if aside else "staged"
        if self.recovered:
            return "drill_recovered" if aside else "recovered"
        return "drill" if aside else "exposed"


KILLED = Decision(reason="kill_switch", policy="kill_switch")
UNDECIDED = Decision(reason="", policy="")
"""What holds for a request that is refused before anything is decided, or forwarded."""


CURSOR = "cursor"
"""What decides further pages."""


def killed_by(policy: Policy) -> Decision | None:
    """What everybody gets while the kill switch is thrown, by hand or by a stage; None: it is not."""
    if policy.toggles.kill_switch:
        return KILLED
    patch = killing(policy.layers)
    return None if patch is None else replace(KILLED, stage=patch.stage)


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
        if self.policy not in ASKS:
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
