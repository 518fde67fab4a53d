"""Sums over the last seconds: a ring of slots, so that adding and reading cost the same at any rate."""

SLOTS = 10
"""Slots per span: the sums cover between nine tenths of the span and all of it."""


class Window:
    """Integer sums, one per column, over the last `span_s` seconds.

    `now` is monotonic time in seconds; a `now` older than one seen before counts as the newest.
    `sums` may be read directly; it is current after `add` or `advance`. Columns are the caller's.
    """

    __slots__ = ("_slot", "_slot_s", "_slots", "_turns_at", "newest", "span_s", "sums")

    def __init__(self, columns: int, span_s: float) -> None:
        self.span_s = span_s
        self.sums = [0] * columns
        self.newest = 0  # number of the slot being filled, since the clock's zero
        self._slot_s = span_s / SLOTS
        self._slots = [[0] * columns for _ in range(SLOTS)]
        self._slot = self._slots[0]
        self._turns_at = self._slot_s

    def add(self, column: int, now: float, count: int = 1) -> None:
        """Count one, or so many at once."""
        if now >= self._turns_at:
            self.advance(now)
        self._slot[column] += count
        self.sums[column] += count

    def amend(self, slot: int, column: int, now: float) -> bool:
        """Count one in an earlier slot, so that it expires together with what was counted there.

        False, and nothing is counted, when that slot has expired.
        """
        self.advance(now)
        if not 0 <= slot <= self.newest < slot + SLOTS:
            return False
        self._slots[slot % SLOTS][column] += 1
        self.sums[column] += 1
        return True

    def advance(self, now: float) -> None:
        """Forget what is older than the span, also after any time of silence."""
        slot = int(now / self._slot_s)
        for number in range(max(self.newest + 1, slot - SLOTS + 1), slot + 1):
            expired = self._slots[number % SLOTS]
            for column, count in enumerate(expired):
                self.sums[column] -= count
                expired[column] = 0
        if slot > self.newest:
            self.newest = slot
            self._slot = self._slots[slot % SLOTS]
            self._turns_at = (slot + 1) * self._slot_s
