"""The addresses of an upstream: which one to call next, which to leave alone for a while.

Power of two choices: of two drawn at random the one with fewer calls in flight (Mitzenmacher 2001),
close to the least loaded of all and without a scan. Times are monotonic seconds.
"""

from collections.abc import Callable, Sequence


class Address:
    """One host and port, with what the calls to it have shown."""

    __slots__ = ("ejected_until", "ejections", "failures", "host", "inflight", "port", "probing")

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.inflight = 0  # counted by whoever calls
        self.failures = 0  # in a row
        self.ejections = 0  # in a row; 0: not ejected
        self.ejected_until = 0.0
        self.probing = False  # the trial that ends an ejection is out


class Addresses:
    """The addresses that the last good resolution named.

    `eject_after` failures in a row eject an address for `eject_s` seconds, doubled by each failed
    trial up to `eject_max_s`. Then it gets one trial at a time; a trial of which nothing was heard is
    followed by the next after another such time. Any success brings an address back.
    """

    __slots__ = ("_eject_after", "_eject_max_s", "_eject_s", "_ejected", "_healthy", "_known", "_rng", "only")

    def __init__(
        self, *, eject_after: int, eject_s: float, eject_max_s: float, rng: Callable[[], float]
    ) -> None:
        self._eject_after = eject_after
        self._eject_s = eject_s
        self._eject_max_s = eject_max_s
        self._rng = rng  # 0 ≤ x < 1
        self._known: dict[tuple[str, int], Address] = {}
        self._healthy: list[Address] = []
        self.only: Address | None = None
        """What `pick` answers as long as it has no choice: mostly there is one, and nothing wrong with it."""
        self._ejected: list[Address] = []

    def __len__(self) -> int:
        return len(self._known)

    def replace(self, endpoints: Sequence[tuple[str, int]]) -> list[Address]:
        """Take over a new resolution; answers the addresses that are no longer in it.

        Known addresses keep their state. A resolution without any address is refused: the last good
        one stays.
        """
        if not endpoints:
            return []
        before = self._known
        self._known = {endpoint: before.get(endpoint) or Address(*endpoint) for endpoint in endpoints}
        self._sort()
        return [address for endpoint, address in before.items() if endpoint not in self._known]

    def pick(self, now: float, avoid: Address | None = None) -> Address:
        """The address for the next call; `avoid` (one that just failed) only when there is no better.

        Never refuses: when all are ejected it is the one whose ejection ends first. LookupError
        before the first resolution.
        """
        healthy = self._healthy
        if self._ejected:
            trial = self._due(now, avoid)
            if trial is not None:
                return trial
            healthy = healthy or [self._soonest(avoid)]
        if len(healthy) > 1 and avoid is not None:
            healthy = [address for address in healthy if address is not avoid]
        n = len(healthy)
        if n == 1:
            return healthy[0]
        if n == 0:
            raise LookupError("no address has been resolved yet")
        first = int(self._rng() * n)
        second = (first + 1 + int(self._rng() * (n - 1))) % n
        one, other = healthy[first], healthy[second]
        return one if one.inflight <= other.inflight else other

    def succeeded(self, address: Address) -> None:
        if address.failures:
            address.failures = 0
            address.probing = False
            if address.ejections:
                address.ejections = 0
                self._sort()

    def failed(self, address: Address, now: float) -> None:
        """A connection refused or reset, or a timeout: something that speaks against the address."""
        address.failures += 1
        # while it is ejected only its trial counts: late results tell nothing new
        if address.probing if address.ejections else address.failures >= self._eject_after:
            address.ejections += 1
            address.ejected_until = now + self._ejection_s(address)
            address.probing = False
            self._sort()

    def _due(self, now: float, avoid: Address | None) -> Address | None:
        for address in self._ejected:
            if address.ejected_until <= now and address is not avoid:
                address.probing = True
                address.ejected_until = now + self._ejection_s(address)
                return address
        return None

    def _soonest(self, avoid: Address | None) -> Address:
        others = [address for address in self._ejected if address is not avoid]
        return min(others or self._ejected, key=lambda address: address.ejected_until)

    def _ejection_s(self, address: Address) -> float:
        return float(min(self._eject_s * 2.0 ** min(address.ejections - 1, 64), self._eject_max_s))

    def _sort(self) -> None:
        self._healthy = [address for address in self._known.values() if not address.ejections]
        self._ejected = [address for address in self._known.values() if address.ejections]
        self.only = self._healthy[0] if len(self._healthy) == 1 and not self._ejected else None
