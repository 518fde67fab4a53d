"""What every test gets: the event loop that Fusebox runs on; PostgreSQL for those that ask for it."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop
from postgres_server import postgres_server, postgres_url  # noqa: F401 - fixtures


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}
