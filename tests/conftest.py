"""What every test gets: the event loop that Fusebox runs on; PostgreSQL for those that ask for it."""

import asyncio
import os
from collections.abc import Callable, Mapping

import pytest
import uvloop
from hypothesis import HealthCheck, settings
from postgres_server import postgres_server, postgres_url  # noqa: F401 - fixtures


def pytest_configure(config: pytest.Config) -> None:
    """What a program that a test starts has compiled is kept for the next one.

    Also where nothing may be written beside the sources: it is a third of what a sidecar's start takes.
    """
    cache = getattr(config, "cache", None)  # None with -p no:cacheprovider
    if cache is not None and os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        os.environ["PYTHONPYCACHEPREFIX"] = str(cache.mkdir("bytecode"))


# Processes share the cores: what takes long by the clock is no finding. pytest-timeout ends what hangs.
settings.register_profile("fusebox", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fusebox")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}
