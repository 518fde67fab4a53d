"""The experiment: which share of the users gets which policy mode (facts 1, hybrid_v1)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Annotated, Any, ClassVar

from annotated_types import Interval

from proxy.core.audit_settings import STRICT
from proxy.core.toggles import Mode

NO_ARM = "none"
CONTROL = "control"
"""Who is not exposed is counted under this arm, beside hybrid_v1's own of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A share of the exposed users and how they are served."""

    __pydantic_config__: ClassVar[Any] = STRICT
    name: str  # stands in metrics and headers
    percent: Annotated[float, Interval(ge=0, le=100)]
    policy_mode: Mode


HYBRID_V1 = (
    Arm(name=CONTROL, percent=20, policy_mode="content_only"),
    Arm(name="treatment_a", percent=40, policy_mode="bucket_gate"),
    Arm(name="treatment_b", percent=40, policy_mode="collab_only"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Arms by ranges of buckets, in their order. Users keep their arm while name, salt and arms stay."""

    __pydantic_config__: ClassVar[Any] = STRICT
    name: str = ""  # empty: no experiment runs
    salt: str = ""  # of its buckets, which are not those of exposure; empty: the name
    arms: tuple[Arm, ...] = field(default_factory=lambda: HYBRID_V1)

    @property
    def salted(self) -> bytes:
        return (self.salt or self.name).encode()


def hundredths(percent: float) -> int:
    """A percentage as a number of buckets: 10 000 are all."""
    return round(percent * 100)


def bounds(arms: Sequence[Arm]) -> list[int]:
    """Where the range of each arm but the first begins, by bucket."""
    return list(accumulate(hundredths(arm.percent) for arm in arms))[:-1]
