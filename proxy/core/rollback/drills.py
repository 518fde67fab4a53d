"""A drill: faults and layers for requests that are marked as its own, for nobody else, for a limited time."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from annotated_types import Ge, Gt, Interval, Len

from proxy.core.audit_settings import STRICT
from proxy.core.rollback.layers import NO_LAYERS, Layers

ASIDE = "drill"
"""Why the requests of a drill are not judged with the others (facts 2.18)."""

Effect: TypeAlias = Literal["error", "delay", "empty"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What becomes of a share of the asking of one source. No upstream is called for `error` and `empty`."""

    __pydantic_config__: ClassVar[Any] = STRICT
    source: Literal["cf", "content", "control"]
    effect: Effect
    share: Annotated[float, Interval(gt=0, le=1)] = 1.0
    delay_ms: Annotated[float, Ge(0)] = 0.0  # `delay`: before it is asked, on top of every deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """What the data plane does to the requests of one drill, until `ends_at`.

    Whatever happens to whoever ordered it, by then it is over: what comes later is a plain override.
    """

    id: Annotated[str, Len(1)]  # that its overrides bear
    ends_at: Annotated[float, Gt(0)]  # monotonic seconds, which all processes of a machine share
    faults: tuple[Fault, ...] = ()
    layers: Layers = NO_LAYERS
    """In place of those that hold for everybody."""
