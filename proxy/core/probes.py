"""A trial: what a half-open breaker learns from the few calls that it lets through."""


class _Lease:
    __slots__ = ("failed", "responded", "started")

    def __init__(self, started: float) -> None:
        self.started = started
        self.responded = False
        self.failed = False  # its verdict is in, the call itself still runs


class Probes:
    """Leases for probes and the verdicts on them. Times are monotonic seconds.

    At most `concurrency` leases are out at once, and all in all `attempts` verdicts are asked for.
    A probe that takes longer than `slow_s` to its response head has failed from that moment, yet
    keeps its lease while it runs. A lease ends with the call; without a response head it lapses
    after `lease_s`, and what comes of the call later is ignored.
    """

    __slots__ = (
        "_leases",
        "attempts",
        "concurrency",
        "failed",
        "lapsed",
        "lease_s",
        "needed",
        "passed",
        "slow_s",
    )

    def __init__(
        self, *, attempts: int, needed: int, concurrency: int, lease_s: float, slow_s: float
    ) -> None:
        self.attempts = attempts  # M
        self.needed = needed  # N of M
        self.concurrency = concurrency
        self.lease_s = lease_s
        self.slow_s = slow_s
        self.passed = 0
        self.failed = 0
        self.lapsed = False  # the latest failure was a lapsed lease
        self._leases: dict[int, _Lease] = {}

    @property
    def inflight(self) -> int:
        return len(self._leases)

    @property
    def succeeded(self) -> bool:
        return self.passed >= self.needed

    @property
    def hopeless(self) -> bool:
        """The successes needed can no longer be reached."""
        return self.failed > self.attempts - self.needed

    @property
    def promising(self) -> bool:
        """Nothing has failed and something works: a success, or an answer in time that still streams."""
        return not self.failed and (
            self.passed > 0 or any(lease.responded for lease in self._leases.values())
        )

    def lease(self, token: int, now: float) -> bool:
        """Take a lease for the call `token`, if one is free."""
        awaited = sum(not lease.failed for lease in self._leases.values())
        if len(self._leases) >= self.concurrency or awaited + self.passed + self.failed >= self.attempts:
            return False
        self._leases[token] = _Lease(now)
        return True

    def restart(self, token: int, now: float) -> None:
        """Count the probe's time from `now`; infinity stops its clock."""
        lease = self._leases.get(token)
        if lease is not None and not lease.responded:
            lease.started = now

    def responded(self, token: int, now: float) -> None:
        """The response head is there: its lateness is settled, the lease lasts until the call ends."""
        lease = self._leases.get(token)
        if lease is not None and not lease.responded:
            self._judge_slowness(lease, now)
            lease.responded = True

    def ended(self, token: int, now: float, *, passed: bool) -> None:
        """The call is over. Unknown and lapsed tokens change nothing."""
        lease = self._leases.pop(token, None)
        if lease is None:
            return
        if not lease.responded:
            self._judge_slowness(lease, now)
        if lease.failed:
            return
        if passed:
            self.passed += 1
        else:
            self._fail(lease)

    def released(self, token: int) -> None:
        """The call is over and says nothing about the upstream: its lease is free again."""
        self._leases.pop(token, None)

    def tick(self, now: float) -> None:
        """Fail probes that are late by now; let leases lapse."""
        for token, lease in list(self._leases.items()):
            if lease.responded:
                continue
            self._judge_slowness(lease, now)
            if now - lease.started >= self.lease_s:
                del self._leases[token]
                if not lease.failed:
                    self._fail(lease)
                    self.lapsed = True

    def _judge_slowness(self, lease: _Lease, now: float) -> None:
        if not lease.failed and now - lease.started > self.slow_s:
            self._fail(lease)

    def _fail(self, lease: _Lease) -> None:
        lease.failed = True
        self.failed += 1
        self.lapsed = False
