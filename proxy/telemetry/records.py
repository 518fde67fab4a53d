"""How the store and the audit log are, at one moment."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsNow:
    """Counts are since the start."""

    store_up: bool  # it can be written
    audit_up: bool  # nothing keeps the log from growing, or from being proven
    spool_bytes: int  # recorded, and not yet in the store
    taken: int  # entries taken from the spool into the store
    damaged: int  # places in the spool that could not be read
    checkpoints_sent: int
    checkpoints_failed: int


def metrics(now: RecordsNow) -> Iterator[Metric]:
    yield GaugeMetricFamily("fusebox_store_up", "1: the store can be written.", int(now.store_up))
    yield GaugeMetricFamily(
        "fusebox_audit_up",
        "1: nothing keeps the log from growing, or from being proven.",
        int(now.audit_up),
    )
    yield GaugeMetricFamily(
        "fusebox_audit_spool_bytes", "Recorded, and not yet in the store.", now.spool_bytes
    )
    yield CounterMetricFamily("fusebox_audit_taken", "Entries taken from spool to store.", now.taken)
    yield CounterMetricFamily(
        "fusebox_audit_damaged", "Places in the spool that could not be read.", now.damaged
    )
    checkpoints = CounterMetricFamily(
        "fusebox_audit_checkpoints", "Checkpoints offered to their sinks.", labels=("result",)
    )
    checkpoints.add_metric(("sent",), now.checkpoints_sent)
    checkpoints.add_metric(("failed",), now.checkpoints_failed)
    yield checkpoints
