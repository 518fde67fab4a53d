"""The event log as DuckDB reads it. Needs the extra `analytics`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.core.events import COLUMNS, Kind
from proxy.eventlog.sources import Sources
from proxy.eventlog.templates import QueryError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_TYPES: Mapping[str, str] = {"STRING": "VARCHAR", "INT": "INTEGER", "ARRAY<STRING>": "VARCHAR[]"}
"""Types that DuckDB calls otherwise."""


def needed(module: str) -> Any:
    """A module of the extra; QueryError says how to get it."""
    try:
        return __import__(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise QueryError(f"this needs {module}: install it with  pip install 'fusebox[analytics]'") from error


def connected() -> "DuckDBPyConnection":
    """A database in memory, to be closed; days are days in UTC."""
    connection: DuckDBPyConnection = needed("duckdb").connect(config={"autoinstall_known_extensions": False})
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def view(kind: Kind, files: Sources) -> str:
    """The body of the view over these files."""
    columns = COLUMNS[kind]
    names = ", ".join(columns)
    parts = []
    if files.ndjson:
        parts.append(f"FROM {lines(kind, files.ndjson)} SELECT {names} WHERE timestamp_ms IS NOT NULL")
    if files.parquet:
        parts.append(f"FROM {days(files.parquet)} SELECT {names}")
    if not parts:
        empty = ", ".join(f"CAST(NULL AS {_type(it)}) AS {name}" for name, it in columns.items())
        parts.append(f"SELECT {empty} WHERE false")
    return " UNION ALL ".join(parts)


def lines(kind: Kind, files: Sequence[Path]) -> str:
    """NDJSON as a table; a line that cannot be read is a row of nulls."""
    types = ", ".join(f"{name}: '{_type(it)}'" for name, it in COLUMNS[kind].items())
    return (
        f"read_json({_paths(files)}, format = 'newline_delimited', ignore_errors = true, "
        f"columns = {{{types}}})"
    )


def days(files: Sequence[Path]) -> str:
    """Parquet by day as a table."""
    return (
        f"read_parquet({_paths(files)}, union_by_name = true, hive_partitioning = true, "
        "hive_types = {'event_date': DATE})"
    )


def torn(connection: "DuckDBPyConnection", kind: Kind, files: Sequence[Path]) -> int:
    """How many lines of these NDJSON files cannot be read."""
    if not files:
        return 0
    sql = f"FROM {lines(kind, files)} SELECT COUNT(*) WHERE timestamp_ms IS NULL"
    (count,) = connection.execute(sql).fetchall()[0]
    return int(count)


def _paths(files: Sequence[Path]) -> str:
    return "[" + ", ".join(f"'{quoted(path)}'" for path in files) + "]"


def quoted(path: Path) -> str:
    """Between quotes in SQL."""
    return str(path).replace("'", "''")


def _type(spark: str) -> str:
    return _TYPES.get(spark, spark)
