"""What a file expects of its incident, against what came of it."""

from collections.abc import Iterator

from proxy.core.simulation.incident import Expect
from proxy.core.simulation.replay import Outcome
from proxy.core.toggles import Scope


def unmet(expect: Expect, outcome: Outcome) -> tuple[str, ...]:
    """Every expectation that was not met, in words."""
    return tuple(_unmet(expect, outcome))


def _unmet(expect: Expect, outcome: Outcome) -> Iterator[str]:
    if outcome.final not in expect.final:
        yield f"ends as {outcome.final}, not {' or '.join(expect.final)}"
    if outcome.false:
        yield f"{outcome.false} rolled back while nothing was broken"
    if expect.acts and outcome.acted_s is None and expect.within_s is None:
        yield "not rolled back"
    if not expect.acts and outcome.acted_s is not None:
        yield f"was rolled back after {outcome.acted_s:.1f} s, and should not have been"
    limits = {
        "rolled back": (outcome.acted_s, expect.within_s),
        "detected": (outcome.detected_s, expect.detected_within_s),
        "normal again": (outcome.recovered_s, expect.recovered_within_s),
    }
    for what, (took, limit) in limits.items():
        if limit is not None and took is None:
            yield f"not {what}"
        elif limit is not None and took is not None and took > limit:
            yield f"{what} after {took:.1f} s, not within {limit:g}"
    if expect.acts and outcome.acted_s is not None and outcome.scope != expect.scope:
        yield f"rolled back for {_words(outcome.scope)}, not for {_words(expect.scope)}"
    if expect.flaps_at_most is not None and outcome.flaps > expect.flaps_at_most:
        yield f"rolled back {outcome.flaps} more times, not at most {expect.flaps_at_most}"


def _words(scope: Scope | None) -> str:
    if scope is None or scope == Scope():
        return "all"
    return " and ".join(f"{part} {', '.join(names)}" for part, names in scope._asdict().items() if names)
