"""Where a store is: `storage.url`, taken apart. A password in it appears in no message and no repr."""

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit

FORMS = "sqlite:///var/fusebox.db, sqlite:////absolute/fusebox.db, postgresql://user@host/database, memory://"


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePlace:
    """`name` is how messages call it. `path` is SQLite's, `url` and `secret` are PostgreSQL's."""

    kind: Literal["sqlite", "postgresql", "memory"]
    name: str
    path: str = ""
    url: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)


def parse(url: str) -> StorePlace:
    """ValueError says what is wrong with it, and which forms there are."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        # without its cause: urlsplit quotes what it could not read, and that may be the password
        raise ValueError(f"is no url: host or port cannot be read; one of {FORMS}") from None
    if parts.scheme == "memory":
        if url not in {"memory:", "memory://"}:
            raise ValueError("memory:// takes neither host nor path: what it keeps ends with the process")
        return StorePlace(kind="memory", name="memory://")
    if parts.scheme == "sqlite":
        return _sqlite(parts)
    if parts.scheme == "postgresql":
        return _postgresql(url, parts, port)
    raise ValueError(f"names no store that is known here; one of {FORMS}")


def _sqlite(parts: SplitResult) -> StorePlace:
    if parts.netloc:
        raise ValueError("sqlite takes three slashes before a relative path and four before an absolute one")
    if parts.query or parts.fragment:
        raise ValueError("sqlite takes no options: a ? or # in the file's name is written %3F or %23")
    path = unquote(parts.path.removeprefix("/"))
    if not path or path.endswith("/") or "\0" in path:
        raise ValueError("names no file: sqlite:///var/fusebox.db")
    return StorePlace(kind="sqlite", name=path, path=path)


def _postgresql(url: str, parts: SplitResult, port: str) -> StorePlace:
    if not parts.path.strip("/"):
        raise ValueError("names no database: postgresql://user@host/database")
    user = f"{parts.username}@" if parts.username else ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return StorePlace(
        kind="postgresql",
        name=f"postgresql://{user}{host}{port}{parts.path}",
        url=url,
        secret=unquote(parts.password or ""),
    )
