"""The twelve toggles: what each may be, what it is for, and what it takes to change it.

`CATALOGUE` is the one place that knows. The check of documents, the JSON Schema, the example and
`docs/toggles_spec.md` are made from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

Mode = Literal["bucket_gate", "content_only", "collab_only", "hybrid_default"]
Level = Literal["A", "B", "C", "D"]
CacheMode = Literal["cold", "prewarm", "warm_only"]

COHORT_ALPHAS: Mapping[str, float] = {"cold": 0.2, "light": 0.4, "medium": 0.6, "heavy": 0.8}
"""Alpha by cohort under `bucket_gate` (facts 1)."""

UNKNOWN_USER = "cold"
"""The cohort of whoever has no user id (facts 1)."""


class Scope(NamedTuple):
    """Whom something is for: one of the names in each list, and in all three; empty: all (facts 2.11).

    A tuple, as rules are: each change sends thousands of them to every worker.
    """

    region: tuple[str, ...] = ()
    cohort: tuple[str, ...] = ()
    client: tuple[str, ...] = ()


class Rule(NamedTuple):
    """Toggles that differ for a scope; those it does not name stay as they are without it."""

    scope: Scope
    toggles: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Toggles:
    """A toggles document as the data plane sees it: the twelve, scoped rules, flags. Defaults are safe."""

    version: int = 1
    alpha_override: float | None = None
    policy_mode: Mode | None = None
    disable_cf: bool = False
    disable_content: bool = False
    candidate_fallback_level: Level = "A"
    kill_switch: bool = False
    exposure_percent: float = 100.0
    cache_mode: CacheMode = "cold"
    experiment_freeze: bool = False
    region_scope: tuple[str, ...] = ()
    cohort_scope: tuple[str, ...] = ()
    client_scope: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()  # the first whose scope fits counts
    flags: Mapping[str, bool] = field(default_factory=dict)  # a flag that is not named is on

    @property
    def scope(self) -> Scope:
        return Scope(region=self.region_scope, cohort=self.cohort_scope, client=self.client_scope)


DEFAULTS = Toggles()


@dataclass(frozen=True, slots=True, kw_only=True)
class Toggle:
    """One entry of the catalogue."""

    name: str
    kind: Literal["switch", "number", "choice", "names"]
    priority: int  # place in the order of precedence (facts 2.10): 1 outranks all
    does: str
    safety: str  # what to bear in mind
    before: str  # what to look at before the change
    after: str  # what has to show afterwards
    depends: tuple[str, ...] = ()  # toggles that decide whether or how it works
    low: float = 0.0
    high: float = 0.0
    choices: tuple[str, ...] = ()  # of a choice; of names: the only ones there are
    nullable: bool = False
    scoped: bool = True  # may stand in a rule

    @property
    def default(self) -> Any:
        """As it stands in a document."""
        value = getattr(DEFAULTS, self.name)
        return [] if value == () else value


CATALOGUE: tuple[Toggle, ...] = (
    Toggle(
        name="alpha_override",
        kind="number",
        low=0.0,
        high=1.0,
        nullable=True,
        priority=8,
        depends=("policy_mode", "disable_cf", "disable_content", "candidate_fallback_level"),
        does="The weight of cf in the blend, instead of what the two hybrid modes give; null: theirs.",
        safety="Takes everybody it touches out of the experiment's hybrid arms; without effect where one "
        "source alone answers.",
        before="Both sources are healthy: breakers closed, coverage at its usual value.",
        after="`metadata.alpha` of new answers is the value; coverage has not moved.",
    ),
    Toggle(
        name="policy_mode",
        kind="choice",
        choices=get_args(Mode),
        nullable=True,
        priority=7,
        depends=("disable_cf", "disable_content", "candidate_fallback_level"),
        does="Whom to ask, how to weigh: `hybrid_default` the route's alpha, `bucket_gate` the cohort's, "
        "`content_only`, `collab_only`; null: as the experiment's arm says, `hybrid_default` without one.",
        safety="Any value ends the experiment for whom it touches. A mode of one source moves its whole load "
        "there; under `collab_only` content is still asked for neighbours where slots stay open (level B).",
        before="The source that remains can take all requests and its breaker is closed.",
        after="`metadata.policy` of new answers; calls of the other source stop, but for level B; coverage "
        "stays.",
    ),
    Toggle(
        name="disable_cf",
        kind="switch",
        priority=4,
        does="Collaborative filtering is not asked; content answers alone.",
        safety="Safe while content is healthy. Together with `disable_content` only popularity is left.",
        before="Content's breaker is closed; `policy_mode` is not `collab_only`.",
        after="Calls of cf stop; coverage stays.",
    ),
    Toggle(
        name="disable_content",
        kind="switch",
        priority=4,
        does="Content similarity is not asked, nor for neighbours; collaborative filtering answers alone.",
        safety="New users, of whom cf knows nothing, get popularity: there is no level B.",
        before="Cf's breaker is closed; `policy_mode` is not `content_only`.",
        after="Calls of content stop; coverage, above all of the cohort `cold`.",
    ),
    Toggle(
        name="candidate_fallback_level",
        kind="choice",
        choices=get_args(Level),
        priority=5,
        depends=("disable_cf", "disable_content"),
        does="Where the ladder begins (a ceiling): A both sources, B and C content without cf, D popularity; "
        "what is missing is filled from further down: neighbours (B), relaxed filters (C), popularity.",
        safety="D needs no source and judges none: nobody notices a broken recommender while it is set.",
        before="For B and C: content's breaker is closed. For D: the popularity list is fresh.",
        after="`metadata.level` of new answers is nowhere better than the value.",
    ),
    Toggle(
        name="kill_switch",
        kind="switch",
        priority=1,
        scoped=False,
        does="Every recommend answer comes from the popularity list in memory; nobody is asked.",
        safety="Outranks everything, ignores scopes, needs nothing. While it is on nobody gets personal "
        "recommendations.",
        before="Nothing: throw it first, ask later.",
        after="`metadata.policy` is `kill_switch`; calls of all sources stop; every answer is full.",
    ),
    Toggle(
        name="exposure_percent",
        kind="number",
        low=0.0,
        high=100.0,
        priority=3,
        does="The share of users that get recommendations; the others get the control answer, never a "
        "refusal. Sticky by user, in steps of 0.01: raising it only adds users.",
        safety="Changes what users get, never how many requests are served. Who would come back too often "
        "within an hour waits in control (`[flaps]`).",
        before="The control upstream, where there is one, can take the others.",
        after="Arm `control` has the rest of the requests; the sum of all arms is unchanged.",
    ),
    Toggle(
        name="cache_mode",
        kind="choice",
        choices=get_args(CacheMode),
        priority=6,
        depends=("disable_cf", "disable_content", "candidate_fallback_level"),
        does="Every mode fills the cache with what sources say. `cold` never reads it; `prewarm` reads it "
        "first, asks for what is not in it, and has what is too old stand in where that fails; `warm_only` "
        "reads it alone, and a miss is level D.",
        safety="What is read may be as old as `[cache]` allows. `warm_only` keeps all load from the sources, "
        "and with it the cache from being filled: it empties by its ttl.",
        before="`fusebox_cache_entries` is not small for the users there are; `[cache] max_bytes` is not 0. "
        "For `warm_only`: a share of hits under `prewarm` that can be lived with.",
        after="`metadata.cache` of new answers, `fusebox_cache_requests_total`; with `warm_only` calls of "
        "the sources stop.",
    ),
    Toggle(
        name="experiment_freeze",
        kind="switch",
        priority=9,
        scoped=False,
        depends=("exposure_percent", "policy_mode", "alpha_override"),
        does="Salt and arms of the experiment stay what they were when it was switched on, whatever the "
        "settings say by then; users first seen after that get its arm `control`.",
        safety="Outlives reload and restart; a revert to a version that was frozen brings back what was. Who "
        "sends no user id is drawn as before; where nothing says who was seen, nobody counts as new, and "
        "`fusebox status` tells.",
        before="The experiment that runs is the one to keep.",
        after="`metadata.arm` of a known user is what it was; of a new one it is `control`.",
    ),
    Toggle(
        name="region_scope",
        kind="names",
        priority=2,
        scoped=False,
        does="The regions that this document is for; the others see defaults. Empty: all.",
        safety="`kill_switch` and `experiment_freeze` ignore it. Names are compared as they are written.",
        before="Requests carry a region (`[identity]`).",
        after="Answers outside the scope are those of before.",
    ),
    Toggle(
        name="cohort_scope",
        kind="names",
        choices=tuple(COHORT_ALPHAS),
        priority=2,
        scoped=False,
        does="The cohorts that this document is for; the others see defaults. Empty: all.",
        safety="As `region_scope`. Who has no user id is `cold`.",
        before="Requests carry a cohort (`[identity]`).",
        after="Answers outside the scope are those of before.",
    ),
    Toggle(
        name="client_scope",
        kind="names",
        priority=2,
        scoped=False,
        does="The clients that this document is for; the others see defaults. Empty: all.",
        safety="As `region_scope`.",
        before="Requests carry a client (`[identity]`).",
        after="Answers outside the scope are those of before.",
    ),
)

BY_NAME: Mapping[str, Toggle] = {toggle.name: toggle for toggle in CATALOGUE}


class Contradiction(NamedTuple):
    """Values that exclude each other; the fault is told at `place`."""

    place: str
    values: Mapping[str, tuple[Any, ...]]
    why: str

    def found_in(self, toggles: Toggles) -> bool:
        return all(getattr(toggles, name) in values for name, values in self.values.items())


CONTRADICTIONS: tuple[Contradiction, ...] = (
    Contradiction(
        "policy_mode",
        {"disable_cf": (True,), "policy_mode": ("collab_only",)},
        "collab_only asks cf alone, and disable_cf forbids that",
    ),
    Contradiction(
        "policy_mode",
        {"disable_content": (True,), "policy_mode": ("content_only",)},
        "content_only asks content alone, and disable_content forbids that",
    ),
    Contradiction(
        "candidate_fallback_level",
        {"disable_cf": (True,), "disable_content": (True,), "candidate_fallback_level": ("A", "B", "C")},
        "should be D: disable_cf and disable_content leave nobody to ask",
    ),
)

NORMAL = "normal"
BASELINES: Mapping[str, Mapping[str, Any]] = {
    "emergency": {
        "kill_switch": True,
        "exposure_percent": 10,
        "policy_mode": "content_only",
        "disable_cf": True,
        "candidate_fallback_level": "D",
    },
    "degraded": {
        "exposure_percent": 50,
        "policy_mode": "content_only",
        "disable_cf": True,
        "candidate_fallback_level": "C",
    },
    "content_only": {
        "policy_mode": "content_only",
        "disable_cf": True,
        "disable_content": False,
        "candidate_fallback_level": "B",
    },
    "collaborative_only": {
        "policy_mode": "collab_only",
        "disable_cf": False,
        "candidate_fallback_level": "B",
    },
    NORMAL: {toggle.name: toggle.default for toggle in CATALOGUE},
}
"""States by name (facts 1): what each sets."""

STAGES: Mapping[str, Mapping[str, Any]] = {
    "1": {"exposure_percent": 75, "cache_mode": "prewarm"},
    "2": {"policy_mode": "content_only", "disable_cf": True, "candidate_fallback_level": "C"},
    "3": {"exposure_percent": 50, "candidate_fallback_level": "D", "experiment_freeze": True},
    "emergency": BASELINES["emergency"],
}
"""What each stage of a rollback sets beside what the ones before it have set (facts 1)."""
