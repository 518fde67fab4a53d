"""What every process that carries traffic is made of and sets up: the sidecar itself, or each worker."""

import gc
import logging
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proxy.core.breaker import Transition
from proxy.core.events import EventsSettings
from proxy.core.policy import Policy
from proxy.core.rollback.signals import Delta
from proxy.dataplane.emitting import Emitting
from proxy.dataplane.plane import DataPlane
from proxy.dataplane.recording import Recorder
from proxy.dataplane.sampling import Sampling
from proxy.errors import FuseboxError
from proxy.eventlog.log import EventLog
from proxy.storage.seen_file import SeenFiles
from proxy.storage.spool import SpoolFile
from proxy.telemetry.counters import Counters

_log = logging.getLogger("fusebox")
_breaker_log = logging.getLogger("fusebox.breakers")

GC_THRESHOLDS = (20_000, 20, 100)
"""Requests leave few cycles behind, and the young generation's default of 700 allocations would be
looked through many times a second for nothing. What the start has built lives until the end and is
frozen out of every collection, so that none has to walk the popularity list."""


class StartError(FuseboxError):
    """The sidecar cannot start; the text names the setting to look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFiles:
    """Where the event log is, how it is kept, and the key of its pseudonyms (b"": users are left out)."""

    directory: Path
    settings: EventsSettings
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooling:
    """Where and how this process keeps the actions it recognises, until the store has them; and where it
    keeps whom its experiment has seen, and its events.
    """

    state: Path  # directory of what outlives every process
    directory: Path
    limit: int  # bytes, of all processes together
    sync: bool
    instance: str
    events: EventFiles | None = None  # None: there is no event log


def data_plane(
    policy: Policy,
    counters: Counters,
    heard: Callable[[Transition], None],
    spooling: Spooling,
    sampling: Sampling,
    on_signals: Callable[[Delta], None] | None = None,
    events: EventLog | None = None,
) -> DataPlane:
    """The data plane of this process with all that works for it.

    Each breaker's changes are counted and logged here, then `heard` by whoever keeps their history. Without
    anybody to hear `on_signals` they wait for whoever takes them.
    SettingsError for what shows only in use, such as a file of certificates that holds none.
    """

    def moved(change: Transition) -> None:
        counters.transitions[change.upstream, change.to, change.rule] += 1
        _tell(change)
        heard(change)

    spool = SpoolFile(spooling.directory, limit=spooling.limit)
    recorder = Recorder(spool, counters, instance=spooling.instance, sync=spooling.sync, events=events)
    return DataPlane(
        policy,
        counters,
        on_transition=moved,
        recorder=recorder,
        sampling=sampling,
        seen=SeenFiles(spooling.state),
        on_signals=on_signals,
        events=_emitting(events, spooling.events),
    )


def _emitting(log: EventLog | None, kept: EventFiles | None) -> Emitting | None:
    if log is None or kept is None:
        return None
    return Emitting(log, kept.settings.sample, kept.settings.request_sample)


def event_log(kept: EventFiles | None, counters: Counters) -> EventLog | None:
    """The event log of this process, if there is one: whoever asks for it closes it."""
    return None if kept is None else EventLog(kept.directory, kept.settings, kept.key, counters)


def model(policy: Policy, spooling: Spooling) -> DataPlane:
    """A data plane that never listens: it refuses what others would, and has the troubles they have."""
    return DataPlane(policy, Counters(), on_transition=lambda _: None, seen=SeenFiles(spooling.state))


def _tell(change: Transition) -> None:
    _breaker_log.warning(
        "breaker %s: %s to %s: %s",
        change.upstream,
        change.before,
        change.to,
        change.reason,
        extra={
            "upstream": change.upstream,
            "before": change.before,
            "to": change.to,
            "rule": change.rule,
            "observed": change.observed,
            "n": change.n,
            "threshold": change.threshold,
            "dry_run": change.dry_run,
        },
    )


def raise_open_files(connections: int) -> None:
    """Each client connection may need one to an upstream; the soft limit of a shell is often 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + 256
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < 2 * connections + 256:
        _log.warning(
            "open-file limit %d: fewer than limits.connections = %d, each of which may need two; raise it",
            wanted,
            connections,
        )


def settle_memory() -> None:
    """Called once everything that lives until the end is built."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
