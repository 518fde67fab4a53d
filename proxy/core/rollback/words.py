"""Why the machine has moved, in words."""

from collections.abc import Mapping, Sequence

from proxy.core.flaps import BUCKETS
from proxy.core.rollback.conduct import Moment
from proxy.core.rollback.course import Course
from proxy.core.rollback.machine import Event
from proxy.core.rollback.verdicts import Critical, Verdict

_MOST = 3


def verdict_words(verdict: Verdict) -> str:
    """`error_p1: 4.12 % of 812 requests, allowed 0.1 % (region eu)`. Of a breach, since it began: it may be
    so young that it does not show in ten minutes.
    """
    n, share = verdict.n, verdict.observed
    observed = "?" if share is None else f"{share * 100:.4g} %"
    of = f"{verdict.trigger}: {observed} of {n} requests, allowed {verdict.threshold * 100:.4g} %"
    segment = verdict.segment
    where = f" ({segment.dimension} {segment.value})" if segment.dimension else ""
    return f"{of}{where}{', as in control' if verdict.shared else ''}"


_SAID: Mapping[str, str] = {
    "passed": "what came since says that it has passed",
    "excused": "the control arm has it as badly",
    "cleared": "nothing is wrong any more",
    "held": "held long enough",
    "verified": "all buckets are let out and no P1 breach is of their making",
    "absorbed": "the receiving upstream has taken what it was given",
}


def reason_of(
    event: Event,
    course: Course,
    causes: Sequence[Verdict],
    criticals: Sequence[Critical],
    moment: Moment,
) -> str:
    """Of an event that came by itself."""
    said: list[str] = [f"{it.kind} {it.name}: {it.detail}" for it in criticals]
    waited = moment.now - course.clock
    if event in _SAID:
        return f"{_SAID[event]} ({waited:.0f} s)"
    if event == "advanced":
        return f"{course.low * 100 / BUCKETS:g} % let out, and no P1 breach in {waited:.0f} s"
    if event == "confirmed" and not causes:
        return course.why
    said += [verdict_words(it) for it in sorted(causes, key=_order)[:_MOST]]
    more = len(causes) - _MOST
    return "; ".join(said) + (f"; and {more} more" if more > 0 else "")


def _order(verdict: Verdict) -> tuple[str, bool, str]:
    """P1 first, and about all traffic before segments."""
    return verdict.priority, bool(verdict.segment.dimension), verdict.trigger
