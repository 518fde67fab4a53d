"""The event log as Spark sees it: the same files, under the names that the templates use."""

from proxy.core.events import COLUMNS
from proxy.eventlog.sources import KINDS, sources
from proxy.eventlog.templates import day


def session(warehouse):
    from pyspark.sql import SparkSession

    return (
        SparkSession.builder.master("local[2]")
        .appName("fusebox")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.warehouse.dir", str(warehouse))
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .getOrCreate()
    )


def create(spark, directory, since, until):
    """`events.KIND`, each a view over tables on NDJSON and Parquet."""
    spark.sql("CREATE DATABASE IF NOT EXISTS events")
    found = sources(directory, since=since, days=(day(since), day(until)))
    for kind in KINDS:
        columns = ", ".join(f"`{name}` {it}" for name, it in COLUMNS[kind].items())
        names = ", ".join(f"`{name}`" for name in COLUMNS[kind])
        parts = []
        if found[kind].ndjson:
            folder = _linked(directory / f"spark-{kind}", found[kind].ndjson)
            spark.sql(
                f"CREATE TABLE events.{kind}_lines ({columns}) USING json "
                f"OPTIONS (path '{folder}', mode 'PERMISSIVE')"
            )
            parts.append(f"SELECT {names} FROM events.{kind}_lines WHERE timestamp_ms IS NOT NULL")
        if found[kind].parquet:
            spark.sql(
                f"CREATE TABLE events.{kind}_days ({columns}) USING parquet PARTITIONED BY (event_date) "
                f"LOCATION '{directory / 'parquet' / kind}'"
            )
            spark.sql(f"MSCK REPAIR TABLE events.{kind}_days")
            parts.append(f"SELECT {names} FROM events.{kind}_days")
        if not parts:
            empty = ", ".join(f"CAST(NULL AS {it}) AS `{name}`" for name, it in COLUMNS[kind].items())
            parts.append(f"SELECT {empty} WHERE false")
        spark.sql(f"CREATE VIEW events.{kind} AS {' UNION ALL '.join(parts)}")


def _linked(folder, files):
    """A directory of these files alone: a table has one place."""
    folder.mkdir()
    for path in files:
        (folder / path.name).hardlink_to(path)
    return folder
