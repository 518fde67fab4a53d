"""One breaker of many workers, as one: each worker judges the share of the traffic that it sees."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from proxy.core.breaker import CLOSED, HALF_OPEN, OPEN, BreakerStatus
from proxy.runtime.workers.messages import Action

_SEVERITY = {CLOSED: 0, HALF_OPEN: 1, OPEN: 2}


class SharedBreaker:
    """A breaker as an operator has it: `command` moves it everywhere, `read` gives what each worker told."""

    def __init__(
        self, command: Callable[[Action, str], None], read: Callable[[float], Iterable[BreakerStatus]]
    ) -> None:
        self._command = command
        self._read = read

    def open(self, now: float, reason: str) -> None:
        self._command("open", reason)

    def close(self, now: float, reason: str) -> None:
        self._command("close", reason)

    def auto(self, now: float, reason: str) -> None:
        self._command("auto", reason)

    def snapshot(self, now: float) -> BreakerStatus:
        return merged(self._read(now))


def merged(told: Iterable[BreakerStatus]) -> BreakerStatus:
    """The state, pauses and share of whoever is worst off, and the counts of all; `told` is not empty.

    `generation` is the sum, so that it still grows with every change. `last` is the latest anywhere:
    the workers' monotonic clocks are the machine's.
    """
    ranked = sorted(told, key=lambda it: (_SEVERITY[it.state], -it.ramp_share, it.opened_for_s))
    worst = ranked[-1]
    calls, failures, slow = (sum(getattr(it, name) for it in ranked) for name in ("n", "failures", "slow"))
    return replace(
        worst,
        generation=sum(it.generation for it in ranked),
        n=calls,
        failures=failures,
        slow=slow,
        failure_rate=failures / calls if calls else 0.0,
        slow_rate=slow / calls if calls else 0.0,
        consecutive=max(it.consecutive for it in ranked),
        retry_after_s=max(it.retry_after_s for it in ranked),
        probes_inflight=sum(it.probes_inflight for it in ranked),
        probes_passed=sum(it.probes_passed for it in ranked),
        probes_failed=sum(it.probes_failed for it in ranked),
        last=max((it.last for it in ranked if it.last), key=lambda change: change.at, default=None),
    )
