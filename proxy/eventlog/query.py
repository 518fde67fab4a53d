"""Templates run by DuckDB over NDJSON and Parquet together; sqlglot turns Spark SQL into DuckDB's.

Needs the extra `analytics`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.eventlog.duck import connected, needed, torn, view
from proxy.eventlog.keeping import LOCK, locked
from proxy.eventlog.sources import KINDS, sources
from proxy.eventlog.templates import QueryError, Template, day

if TYPE_CHECKING:
    from sqlglot import exp


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    columns: Sequence[str]
    rows: Sequence[tuple[Any, ...]]
    torn: int
    """Lines that could not be read: of a writer that was killed."""


class Queries:
    """The event log in `directory`, for any number of queries about the time between two wall times."""

    def __init__(self, directory: Path, since: float, until: float) -> None:
        """QueryError when the extra is missing, there is no event log, or no time between."""
        for module in ("duckdb", "sqlglot"):
            needed(module)
        if not directory.is_dir():
            raise QueryError(
                f"{directory}: there is no event log: [events] of the settings of the sidecar names it"
            )
        if until <= since:
            raise QueryError("the time asked about ends before it begins")
        self._directory = directory
        self._since, self._until = since, until

    def run(self, template: Template, given: Mapping[str, str]) -> Result:
        """QueryError when a parameter is wrong."""
        sql = translated(template.rendered(given, self._since, self._until))
        days = day(self._since), day(self._until)
        with locked(self._directory / LOCK, alone=False), connected() as connection:
            found = sources(self._directory, since=self._since, days=days)
            connection.execute("CREATE SCHEMA events")
            unread = 0
            for kind in KINDS:
                if f"events.{kind}" in template.sql:
                    files = found[kind]
                    connection.execute(f"CREATE VIEW events.{kind} AS {view(kind, files)}")
                    unread += torn(connection, kind, files.ndjson)
            answer = connection.execute(sql)
            return Result(columns=[it[0] for it in answer.description], rows=answer.fetchall(), torn=unread)


def translated(sql: str) -> str:
    """Spark SQL as DuckDB understands it. Percentiles are exact here: Spark's are, up to 10,000 rows."""
    from sqlglot import exp, parse_one  # noqa: PLC0415 - of an extra

    def mended(node: "exp.Expr") -> "exp.Expr":
        if isinstance(node, exp.ApproxQuantile):
            return exp.func("QUANTILE_DISC", node.this, node.args["quantile"])
        return node

    return parse_one(sql, read="spark").transform(mended).sql("duckdb")
