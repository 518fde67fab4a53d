"""Toggles for one request, by a signed header: for whoever tests, and for nobody else's traffic.

What settings do not allow is refused and named; numbers outside their ranges are clamped, and that is told.
What is for everybody (the kill switch, the freeze, scopes) can be in no override.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, NamedTuple

import orjson
from annotated_types import Interval

from proxy.core.audit_settings import STRICT
from proxy.core.rollback.drills import ASIDE as DRILL
from proxy.core.signing import BadToken, Kind
from proxy.core.toggles import BY_NAME, CATALOGUE, CONTRADICTIONS
from proxy.core.toggles_document import read_values
from proxy.errors import Refusal

HEADER = b"x-fusebox-override"
EXPLAIN = b"x-fusebox-explain"
ASIDE = "override"
"""Why overridden requests are not judged (facts 2.18)."""
ASIDES = frozenset((ASIDE, DRILL))
"""Why requests with the header may be set aside."""

OVERRIDABLE = tuple(toggle.name for toggle in CATALOGUE if toggle.scoped)
MAX_NAME = 64
SKEW_S = 5.0
"""Clocks of the machines that sign and verify may be so far apart."""

_TOKEN = Kind(b"override", version=1, most=2048)
_SHAPE: Mapping[str, type] = {"id": str, "by": str, "at": int, "until": int, "toggles": dict}


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What may be overridden for one request, and how far."""

    __pydantic_config__: ClassVar[Any] = STRICT
    enabled: bool = True
    toggles: tuple[str, ...] = OVERRIDABLE
    max_ttl_s: Annotated[int, Interval(ge=1, le=7 * 86_400)] = 3_600
    alpha_min: Annotated[float, Interval(ge=0, le=1)] = 0.0
    alpha_max: Annotated[float, Interval(ge=0, le=1)] = 1.0
    exposure_min: Annotated[float, Interval(ge=0, le=100)] = 0.0  # percent
    exposure_max: Annotated[float, Interval(ge=0, le=100)] = 100.0
    secret: str = field(default="", repr=False)  # empty: the key in the state directory signs

    def range_of(self, name: str) -> tuple[float, float] | None:
        """What a toggle's number may be here; None: it is no number."""
        return {
            "alpha_override": (self.alpha_min, self.alpha_max),
            "exposure_percent": (self.exposure_min, self.exposure_max),
        }.get(name)


class Override(NamedTuple):
    """What a header says."""

    id: str
    by: str
    at: int  # made; wall clock, seconds
    until: int
    toggles: tuple[tuple[str, Any], ...]  # sorted by name
    drill: str = ""  # the one that it belongs to


class Clamped(NamedTuple):
    """A value that settings brought into its range: a toggle's, or `until`."""

    name: str
    asked: float
    given: float


class Verified(NamedTuple):
    """An override that counts, as settings let it."""

    override: Override
    clamped: tuple[Clamped, ...]


def sign(key: bytes, override: Override) -> str:
    """The header's value."""
    said = override._asdict() | {"toggles": dict(override.toggles)}
    if not override.drill:
        del said["drill"]
    return _TOKEN.sign(key, orjson.dumps(said))


def verify(key: bytes, header: bytes, settings: Overrides, now: float) -> Verified:
    """What the header's value means at `now` (wall clock).

    Raises `Refusal` (400 `override_invalid`) that says what is wrong. Whether it contradicts the toggles in
    force is not known here.
    """
    if not settings.enabled:
        raise refused("overrides are switched off in the settings")
    if not key:
        raise refused("there is no signing key here, so none can be verified; `fusebox status` says why")
    if b"," in header:
        raise refused("may be sent once only")
    try:
        override = _read(_TOKEN.open(key, header))
    except BadToken as error:
        raise refused(str(error)) from None
    until = min(override.until, override.at + settings.max_ttl_s)
    if now > until + SKEW_S:
        raise refused(f"has expired {now - until:.0f} s ago; sign a new one")
    if now < override.at - SKEW_S:
        raise refused(f"was made {override.at - now:.0f} s from now: set the clocks right")
    if unwanted := not_allowed(dict(override.toggles), settings):
        raise refused("; ".join(unwanted))
    clamped, toggles = [], []
    if until < override.until:
        clamped.append(Clamped("until", override.until, until))
    for name, value in override.toggles:
        given = _clamp(name, value, settings)
        if given != value:
            clamped.append(Clamped(name, value, given))
        toggles.append((name, given))
    return Verified(override._replace(until=until, toggles=tuple(toggles)), tuple(clamped))


def faults(toggles: Mapping[str, Any], settings: Overrides) -> list[str]:
    """All that is wrong with what somebody wants to sign: nothing of it is clamped in silence."""
    found = not_allowed(toggles, settings)
    for name, value in toggles.items():
        given = _clamp(name, value, settings)
        if given != value:
            low, high = settings.range_of(name) or (0.0, 0.0)
            found.append(f"{name} should be from {low:g} to {high:g} by [overrides]")
    for each in CONTRADICTIONS:
        if all(toggles.get(name) in values and name in toggles for name, values in each.values.items()):
            found.append(f"{each.place} {each.why}")
    return found


def not_allowed(toggles: Mapping[str, Any], settings: Overrides) -> list[str]:
    """Why these toggles cannot be overridden so, whatever their range."""
    everybodys = BY_NAME.keys() - set(OVERRIDABLE)
    found = [f"{name} is for everybody and can be in no override" for name in toggles if name in everybodys]
    own = {name: value for name, value in toggles.items() if name not in everybodys}
    _, wrong = read_values(own, [BY_NAME[name] for name in OVERRIDABLE])
    found += (f"{fault.place[0]}: {fault.message}" for fault in wrong)
    allowed = ", ".join(settings.toggles) or "none"
    return found + [
        f"{name} may not be overridden here: [overrides] allows {allowed}"
        for name in own
        if name in OVERRIDABLE and name not in settings.toggles
    ]


def refused(detail: str) -> Refusal:
    return Refusal("override_invalid", 400, "Bad Request", f"X-Fusebox-Override: {detail}")


def _clamp(name: str, value: Any, settings: Overrides) -> Any:
    limits = settings.range_of(name)
    if limits is None or type(value) not in {int, float}:
        return value
    return min(max(value, limits[0]), limits[1])


def _read(payload: bytes) -> Override:
    """It bears our signature, and yet another version of this program may have made it."""
    try:
        said = orjson.loads(payload)
        for name, kind in _SHAPE.items():
            if type(said[name]) is not kind:
                raise TypeError(name)  # noqa: TRY301 - told as whatever else is not as it should be
        drill = str(said.get("drill", ""))
    except (ValueError, KeyError, TypeError):
        raise BadToken("holds something else than an override") from None
    toggles = tuple(sorted(said.pop("toggles").items()))
    values = {name: said[name] for name in _SHAPE if name != "toggles"}
    return Override(**values, toggles=toggles, drill=drill)
