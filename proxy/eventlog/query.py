"""Templates run by DuckDB over NDJSON and Parquet together; sqlglot turns Spark SQL into DuckDB's.

Needs the extra `analytics`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.core.events import COLUMNS, Kind
from proxy.eventlog.sources import KINDS, Sources, sources
from proxy.eventlog.templates import QueryError, Template, day

if TYPE_CHECKING:
    import duckdb
    from sqlglot import exp

_TYPES: Mapping[str, str] = {"STRING": "VARCHAR", "INT": "INTEGER", "ARRAY<STRING>": "VARCHAR[]"}
"""Types that DuckDB calls otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    columns: Sequence[str]
    rows: Sequence[tuple[Any, ...]]
    torn: int
    """Lines that could not be read: of a writer that was killed."""


class Queries:
    """The event log in `directory`, for any number of queries about the time between two wall times."""

    def __init__(self, directory: Path, since: float, until: float) -> None:
        """QueryError when the extra is missing, or there is no event log."""
        self._duckdb = needed("duckdb")
        needed("sqlglot")
        if not directory.is_dir():
            raise QueryError(
                f"{directory}: there is no event log: [events] of the settings of the sidecar names it"
            )
        self._since, self._until = since, until
        self._sources = sources(directory, since=since, days=(day(since), day(until)))

    def run(self, template: Template, given: Mapping[str, str]) -> Result:
        """QueryError when a parameter is wrong."""
        sql = translated(template.rendered(given, self._since, self._until))
        with self._duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("CREATE SCHEMA events")
            torn = 0
            for kind in KINDS:
                if f"events.{kind}" in template.sql:
                    connection.execute(f"CREATE VIEW events.{kind} AS {view(kind, self._sources[kind])}")
                    torn += _torn(connection, kind, self._sources[kind])
            found = connection.execute(sql)
            return Result(columns=[it[0] for it in found.description], rows=found.fetchall(), torn=torn)


def needed(module: str) -> Any:
    """A module of the extra; QueryError says how to get it."""
    try:
        return __import__(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise QueryError(
            f"queries need {module}: install it with  pip install 'fusebox[analytics]'"
        ) from error


def translated(sql: str) -> str:
    """Spark SQL as DuckDB understands it. Percentiles are exact here: Spark's are, up to 10,000 rows."""
    from sqlglot import exp, parse_one  # noqa: PLC0415 - of an extra

    def mended(node: "exp.Expr") -> "exp.Expr":
        if isinstance(node, exp.ApproxQuantile):
            return exp.func("QUANTILE_DISC", node.this, node.args["quantile"])
        return node

    return parse_one(sql, read="spark").transform(mended).sql("duckdb")


def view(kind: Kind, files: Sources) -> str:
    """The body of the view over these files."""
    columns = COLUMNS[kind]
    names = ", ".join(columns)
    parts = []
    if files.ndjson:
        parts.append(f"FROM {lines(kind, files.ndjson)} SELECT {names} WHERE timestamp_ms IS NOT NULL")
    if files.parquet:
        parts.append(
            f"FROM read_parquet({_paths(files.parquet)}, union_by_name = true, hive_partitioning = true, "
            f"hive_types = {{'event_date': DATE}}) SELECT {names}"
        )
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


def _torn(connection: "duckdb.DuckDBPyConnection", kind: Kind, files: Sources) -> int:
    if not files.ndjson:
        return 0
    sql = f"FROM {lines(kind, files.ndjson)} SELECT COUNT(*) WHERE timestamp_ms IS NULL"
    (count,) = connection.execute(sql).fetchall()[0]
    return int(count)


def _paths(files: Sequence[Path]) -> str:
    return "[" + ", ".join("'" + str(path).replace("'", "''") + "'" for path in files) + "]"


def _type(spark: str) -> str:
    return _TYPES.get(spark, spark)
