"""Opens the store that `storage.url` names."""

from pathlib import Path

from proxy.core import store_url
from proxy.ports import StoreError
from proxy.ports.records import Store
from proxy.storage.memory import MemoryStore
from proxy.storage.sqlite import SqliteStore


def open_store(url: str, base_dir: Path, *, existing: bool = False) -> Store:
    """The store of `url`, made or brought to the newest version where need be; StoreError when it cannot be.

    A relative path begins at `base_dir`. With `existing` it has to be there at its newest version.
    """
    place = parsed(url)
    if place.kind == "memory":
        if existing:
            raise StoreError(f"{place.name}: keeps nothing beyond the process: see storage.url")
        return MemoryStore()
    if place.kind == "sqlite":
        return SqliteStore(base_dir / place.path, existing=existing)
    return _postgres(place, existing=existing)


def parsed(url: str) -> store_url.StorePlace:
    """As `store_url.parse`, but what is wrong is a StoreError."""
    try:
        return store_url.parse(url)
    except ValueError as error:
        raise StoreError(f"storage.url {error}") from error


def _postgres(place: store_url.StorePlace, *, existing: bool) -> Store:
    try:
        from proxy.storage.postgres import PostgresStore  # noqa: PLC0415 - needs an extra
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        raise StoreError(
            f"{place.name}: PostgreSQL needs psycopg: install it with  pip install 'fusebox[postgres]'"
        ) from error
    except ImportError as error:  # psycopg without its C library
        raise StoreError(f"{place.name}: psycopg cannot be used: {error}") from error
    return PostgresStore(place, existing=existing)
