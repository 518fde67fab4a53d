"""The rollback in the metrics: its state, what each trigger answers, its transitions."""

from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from proxy.core.rollback.verdicts import ALL, Segment, Verdict
from proxy.telemetry.rollback import RollbackNow, metrics


def verdict(answer, segment=ALL):
    return Verdict(
        trigger="error_p1",
        metric="error",
        priority="P1",
        segment=segment,
        answer=answer,
        threshold=0.001,
        observed=None,
        bound=None,
        n=0,
        needed=None,
        since=None,
    )


class Told(Collector):
    def __init__(self, now):
        self.now = now

    def collect(self):
        return metrics(self.now)


def test_one_series_is_one_and_the_rest_are_zero():
    registry = CollectorRegistry()
    registry.register(
        Told(
            RollbackNow(
                state="ROLLED_BACK",
                applied=True,
                verdicts=(verdict("breach"), verdict("ok", Segment("region", "eu"))),
                transitions={("NORMAL", "DEGRADED"): 2},
            )
        )
    )
    page = generate_latest(registry).decode()
    assert 'fusebox_rollback_state{state="ROLLED_BACK"} 1.0' in page
    assert page.count("fusebox_rollback_state{") == 6
    assert 'fusebox_trigger_verdict{trigger="error_p1",verdict="breach"} 1.0' in page
    assert 'fusebox_trigger_verdict{trigger="error_p1",verdict="ok"} 0.0' in page
    assert page.count("fusebox_trigger_verdict{") == 4
    assert 'fusebox_rollback_transitions_total{from="NORMAL",to="DEGRADED"} 2.0' in page
    assert "fusebox_rollback_applied 1.0" in page
