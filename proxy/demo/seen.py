"""What the demo's clients saw, and what a sound answer is.

Plain records, filled by the traffic, read by the view and the verdict.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

WINDOW_S = 2.0
"""The live view's rates and percentiles are over this many seconds."""


@dataclass(slots=True)
class Recommended:
    """The recommend answers of one phase."""

    seconds: list[float] = field(default_factory=list)
    flaws: Counter[str] = field(default_factory=Counter)
    levels: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)  # of items
    slots_asked: int = 0
    slots_filled: int = 0


@dataclass(slots=True)
class Effect:
    """One payment or email the client wants done once, over all its attempts."""

    key: str
    attempts: int = 0
    receipt: str = ""  # the id in the answer that said it is done; empty: none did


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One attempt at a write that was not answered 201."""

    kind: str  # payment or email
    sent_in: str  # the phase
    answered_in: str
    code: str  # of the problem document, else the status, else what broke
    seconds: float


@dataclass(slots=True)
class Seen:
    """Everything of one run. A request belongs to the phase in which it was sent."""

    phase: str = ""
    phases: dict[str, Recommended] = field(default_factory=dict)
    payments: list[Effect] = field(default_factory=list)
    emails: list[Effect] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    held_back: int = 0  # requests not sent because too many were under way
    recent: deque[tuple[float, str, float]] = field(default_factory=deque)  # (at, kind, seconds)

    def begin(self, phase: str) -> None:
        self.phase = phase
        self.phases[phase] = Recommended()

    def answered(self, kind: str, at: float, seconds: float) -> None:
        """Remember an answer for the live view."""
        self.recent.append((at, kind, seconds))
        self.forget(at)

    def forget(self, now: float) -> None:
        while self.recent and self.recent[0][0] < now - WINDOW_S:
            self.recent.popleft()


def flaw(status: int, body: Any, k: int) -> str:
    """What is wrong with a recommend answer, or nothing: 200, exactly k items, unique ids, ranks 1 to k."""
    if status != 200:
        code = body.get("code", "") if isinstance(body, dict) else ""
        return f"status {status} {code}".strip()
    items = body.get("items") if isinstance(body, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return "no items in the body"
    if len(items) != k:
        return f"{len(items)} items instead of {k}"
    if len({item.get("id") for item in items}) != k:
        return "an id twice"
    if [item.get("rank") for item in items] != list(range(1, k + 1)):
        return "ranks are not 1 to k"
    lacking = {
        name for item in items for name in ("score", "source", "title", "year", "genres") if name not in item
    }
    if lacking:
        return f"items without {', '.join(sorted(lacking))}"
    metadata = body.get("metadata")
    return "" if isinstance(metadata, dict) and "level" in metadata else "no level in the metadata"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed; 0 for none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]
