"""What a person may ask of the rollback, and what would come of it."""

from dataclasses import dataclass
from typing import Literal

from proxy.core.rollback.engine import Engine, Transition
from proxy.core.rollback.stages import ALL_SCOPE, Stage
from proxy.core.toggles import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Start: with `stage` and `scope`. Override: with `baseline`."""

    action: Literal["start", "override", "release"]
    stage: Stage = "2"
    scope: Scope = ALL_SCOPE
    baseline: str = ""

    def give(
        self, engine: Engine, now: float, *, by: str, reason: str, dry_run: bool = False
    ) -> tuple[Transition, ...]:
        """IllegalMove says why it cannot be; then nothing has changed."""
        if self.action == "start":
            return engine.start(now, by, reason, self.stage, self.scope, dry_run=dry_run)
        if self.action == "override":
            return engine.override(now, by, reason, self.baseline, dry_run=dry_run)
        return engine.release(now, by, reason, dry_run=dry_run)
