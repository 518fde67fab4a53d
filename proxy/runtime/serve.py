"""What `fusebox serve` does: from a settings file to an exit code."""

import os
import signal
import sys
from pathlib import Path

import uvloop

from proxy.errors import Problem, SettingsError
from proxy.ports import StoreError
from proxy.runtime.announce import say
from proxy.runtime.process import StartError
from proxy.runtime.sidecar import Sidecar
from proxy.settings import Settings, load
from proxy.storage import directory
from proxy.telemetry.counters import Counters
from proxy.telemetry.logs import Logs, descriptor, setup


def serve(config: Path, workers: int | None = None) -> int:
    """Run the sidecar until it is told to stop (contract, Command line), with so many workers or alone.

    0 after a drain, 1 when it could not start or was aborted, 2 when the settings cannot be used;
    then every problem stands on stderr and nothing has listened.
    """
    # What is asked for before there is anything to reload or replace must not end the process.
    for number in (signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    try:
        return _serve(load(config, os.environ), workers)
    except SettingsError as error:
        for problem in error.problems:
            say(f"fusebox: {problem}")
        return 2
    except StartError as error:
        say(f"fusebox: {error}")
        return 1


def _serve(settings: Settings, workers: int | None) -> int:
    _make_state_directory(settings)
    if sys.stdout is None:
        raise StartError("stdout is closed, and the log goes there: redirect it, to /dev/null if need be")
    counters = Counters()
    logs = setup(settings.log.level, counters, descriptor(sys.stdout.fileno()), shared=workers is not None)
    try:
        with directory.hold(settings.state_directory):
            return uvloop.run(_run(settings, counters, logs, workers))
    except directory.InUse as error:
        hint = "each needs its own, or one would undo what the other decides (state.directory)"
        raise StartError(f"{error}: {hint}") from error
    finally:
        logs.stop()


def _make_state_directory(settings: Settings) -> None:
    try:
        directory.make(settings.state_directory)
    except StoreError as error:
        hint = "the kill decision and the tokens are kept there: name a directory that can be written"
        raise SettingsError([Problem(str(settings.file), "state.directory", str(error), hint)]) from error


async def _run(settings: Settings, counters: Counters, logs: Logs, workers: int | None) -> int:
    return await Sidecar(settings, counters, logs, workers).run()
