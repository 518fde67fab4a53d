"""The way back: how long to hold, what to let out next, when a step has shown enough."""

from proxy.core.flaps import BUCKETS
from proxy.core.rollback.course import Course
from proxy.core.rollback.settings import RollbackSettings

PATIENCE = 2.0
"""So many times as long, and `minimum_requests` without a breach do for green: few requests prove little,
and must get back all the same.
"""
LONG_PATIENCE = 4.0
"""So many times as long, and a step that is not the last needs no requests: it may be too small to see any.
What is let out with the next one is judged as well. Where the few that came went wrong it waits for more: a
step begins anew, and what they said would be lost while more users meet it.
"""


def hold_s(course: Course, settings: RollbackSettings) -> float:
    """In ROLLED_BACK, before recovery is tried."""
    return longer(settings.hold_s, course.failed, settings)


def dwell_s(course: Course, now: float, settings: RollbackSettings) -> float:
    """Of green in DEGRADED. Longer for what comes again and again, so that stage 1 does not flap."""
    again = sum(1 for at in course.warnings if at > now - settings.flaps_s) - 1
    return longer(settings.degraded_green_s, max(0, again), settings)


def longer(seconds: float, times: int, settings: RollbackSettings) -> float:
    """Multiplied so many times by `hold_factor`, up to `hold_max_s` (or what it was, if that is more)."""
    most = max(seconds, settings.hold_max_s)
    for _ in range(times):
        if seconds >= most or settings.hold_factor == 1:
            break
        seconds *= settings.hold_factor
    return min(seconds, most)


def next_low(low: int, settings: RollbackSettings, exposure: float = 100.0) -> int:
    """The bucket that the next step lets out up to: percent of those that operators expose, who are the
    lowest ones; one bucket at least. The last step is always all buckets.
    """
    exposed = (exposure or 100.0) * BUCKETS / 10_000
    steps = sorted(max(1, round(percent * exposed)) for percent in settings.recovery_steps[:-1])
    return next((step for step in steps if step > low), BUCKETS)


def next_look(course: Course, now: float, settings: RollbackSettings) -> float | None:
    """When the present step may be over next; None: when enough requests have come."""
    times = (1.0, PATIENCE, LONG_PATIENCE) if course.low < BUCKETS else (1.0, PATIENCE)
    ends = (course.clock + settings.recovery_step_s * each for each in times)
    return next((at for at in ends if at > now), None)


def quiet_enough(course: Course, waited_s: float, wanted_s: float, settings: RollbackSettings) -> bool:
    """Without green: no breach for long enough, seen by enough requests."""
    return waited_s >= wanted_s * PATIENCE and course.requests >= settings.minimum_requests
