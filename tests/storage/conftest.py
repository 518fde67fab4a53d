"""Stores of every kind."""

import pytest

from proxy.storage.memory import MemoryStore
from proxy.storage.sqlite import SqliteStore
from proxy.storage.stores import open_store


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request, tmp_path):
    if request.param == "memory":
        made = MemoryStore()
    elif request.param == "sqlite":
        made = SqliteStore(tmp_path / "fusebox.db")
    else:
        made = open_store(request.getfixturevalue("postgres_url"), tmp_path)
    yield made
    made.close()


@pytest.fixture
def sqlite(tmp_path):
    made = SqliteStore(tmp_path / "fusebox.db", busy_s=0.2)
    yield made
    made.close()
