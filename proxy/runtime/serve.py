"""What `fusebox serve` does: from a settings file to an exit code."""

import os
import signal
import sys
from pathlib import Path

import uvloop

from proxy.errors import Problem, SettingsError
from proxy.ports import StoreError
from proxy.runtime.announce import say
from proxy.runtime.sidecar import Sidecar, StartError
from proxy.settings import Settings, load
from proxy.storage import directory
from proxy.telemetry.counters import Counters
from proxy.telemetry.logs import Logs, descriptor, setup


def serve(config: Path) -> int:
    """Run the sidecar until it is told to stop (contract, Command line).

    0 after a drain, 1 when it could not start or was aborted, 2 when the settings cannot be used;
    then every problem stands on stderr and nothing has listened.
    """
    # A reload asked for before there is anything to reload must not end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        return _serve(load(config, os.environ))
    except SettingsError as error:
        for problem in error.problems:
            say(f"fusebox: {problem}")
        return 2
    except StartError as error:
        say(f"fusebox: {error}")
        return 1


def _serve(settings: Settings) -> int:
    _make_state_directory(settings)
    if sys.stdout is None:
        raise StartError("stdout is closed, and the log goes there: redirect it, to /dev/null if need be")
    counters = Counters()
    logs = setup(settings.log.level, counters, descriptor(sys.stdout.fileno()))
    try:
        with directory.hold(settings.state_directory):
            return uvloop.run(_run(settings, counters, logs))
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


async def _run(settings: Settings, counters: Counters, logs: Logs) -> int:
    return await Sidecar(settings, counters, logs).run()
