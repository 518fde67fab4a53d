"""The event log of a sidecar: made from its settings, told its troubles, closed at the end."""

import logging

from proxy.core.breaker import Transition
from proxy.core.rollback.engine import Transition as RollbackTransition
from proxy.core.transitions import breaker_moved, rollback_moved
from proxy.ports import StoreError
from proxy.runtime.process import EventFiles, event_log
from proxy.settings import Settings
from proxy.storage.signing_key import load_or_make
from proxy.telemetry.counters import Counters

_log = logging.getLogger("fusebox.events")


class Events:
    """What this process writes into it; with workers that is what control decides, and their breakers."""

    def __init__(self, settings: Settings, counters: Counters) -> None:
        self._counters = counters
        self._keyless = ""
        self.files: EventFiles | None = None
        """As every process of this sidecar gets it; None: there is no event log."""
        if settings.events.directory:
            self.files = EventFiles(
                directory=settings.events_directory, settings=settings.events, key=self._key(settings)
            )
        self.log = event_log(self.files, counters)

    def breaker_moved(self, change: Transition) -> None:
        if self.log is not None:
            self.log.add(breaker_moved(change))

    def rollback_moved(self, move: RollbackTransition) -> None:
        if self.log is not None:
            self.log.add(rollback_moved(move))

    def troubles(self) -> list[str]:
        """Why events are lost, or lack something, at present; empty: neither."""
        found = [self._keyless]
        if self._counters.events_stuck:
            found.append("events cannot be written and are lost: the log has the reason")
        return list(filter(None, found))

    def close(self) -> None:
        if self.log is not None:
            self.log.close()

    def _key(self, settings: Settings) -> bytes:
        try:
            return load_or_make(settings.events_key_file, lost="every user gets another pseudonym")
        except StoreError as error:
            self._keyless = f"events lack the users, whose pseudonyms need their key: {error}"
            _log.error("%s", self._keyless)
            return b""
