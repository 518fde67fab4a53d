"""The event log as those see it whose events it takes."""

from typing import Protocol

from proxy.core.events import Event


class EventSink(Protocol):
    """Takes events of one thread."""

    def add(self, event: Event, /) -> None:
        """Take it. Never blocks and never raises: what finds no room is dropped, and counted."""


class Losses(Protocol):
    """Where a sink counts."""

    events_dropped: int
    events_stuck: int
    """Now: event logs that cannot be written."""
