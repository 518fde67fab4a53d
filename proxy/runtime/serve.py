"""What `fusebox serve` does: from a settings file to an exit code."""

import os
import signal
import sys
from pathlib import Path

import uvloop

from proxy.errors import SettingsError
from proxy.runtime.sidecar import Sidecar, StartError, say
from proxy.settings import Settings, load
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
    counters = Counters()
    logs = setup(settings.log.level, counters, descriptor(sys.stdout.fileno()))
    try:
        return uvloop.run(_run(settings, counters, logs))
    finally:
        logs.stop()


async def _run(settings: Settings, counters: Counters, logs: Logs) -> int:
    return await Sidecar(settings, counters, logs).run()
