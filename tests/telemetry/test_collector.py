from types import SimpleNamespace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from proxy.core.breaker import Breaker, BreakerSettings, Outcome
from proxy.core.policy import Policy, Toggles
from proxy.core.toggles import Scope
from proxy.telemetry.collector import Metrics, SidecarCollector
from proxy.telemetry.counters import Counters
from proxy.telemetry.records import RecordsNow

NOW = 20.0


@pytest.fixture
def counters():
    return Counters()


def scrape(counters, *, toggles=None, age_s=0.0, records=None, held=(), **states):
    observed = SimpleNamespace(
        policy=Policy(routes=(), upstreams={}, toggles=toggles or Toggles(), held=dict(held)),
        breakers={name: breaker(state) for name, state in states.items()},
    )
    collector = SidecarCollector(counters, observed, lambda: age_s, records=records, monotonic=lambda: NOW)
    return Metrics(collector)


def breaker(state):
    """One that shows `state`, or closed in the middle of its ramp for "ramp"."""
    settings = BreakerSettings(ramp_s=10, cooldown_s=1, cooldown_jitter=0)
    made = Breaker("any", settings, rng=lambda: 0.5, on_transition=lambda _: None, now=0.0)
    if state == "half_open":
        for _ in range(settings.consecutive_failures):
            made.done(made.admit(1.0, 0), Outcome.FAILURE, 1.0)
        made.admit(3.0, 0)
    elif state in ("open", "ramp"):
        made.open(NOW - 5, "test")
        if state == "ramp":
            made.auto(NOW - 5, "test")
    return made


def samples(metrics):
    page, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in parse(page.decode())
        for sample in family.samples
    }


def test_requests_are_shown_by_route_arm_and_status_class_with_their_latency(counters):
    cell = counters.cell("pay", "control")
    cell.count(200, 0.004)
    cell.count(503, 0.06)
    cell.count(204, 99.0)
    found = samples(scrape(counters))
    assert found["fusebox_requests_total", "control", "pay", "2xx"] == 2
    assert found["fusebox_requests_total", "control", "pay", "5xx"] == 1
    assert found["fusebox_requests_total", "control", "pay", "4xx"] == 0
    assert found["fusebox_request_seconds_bucket", "control", "0.0025", "pay"] == 0
    assert found["fusebox_request_seconds_bucket", "control", "0.005", "pay"] == 1
    assert found["fusebox_request_seconds_bucket", "control", "0.075", "pay"] == 2
    assert found["fusebox_request_seconds_bucket", "control", "30.0", "pay"] == 2
    assert found["fusebox_request_seconds_bucket", "control", "+Inf", "pay"] == 3
    assert found["fusebox_request_seconds_count", "control", "pay"] == 3
    assert found["fusebox_request_seconds_sum", "control", "pay"] == pytest.approx(99.064)


def test_upstreams_are_shown_by_outcome_with_what_runs_and_waits(counters):
    cell = counters.upstream("cf")
    cell.outcomes["timeout"] = 4
    cell.buckets[0], cell.seconds = 5, 0.002
    cell.inflight, cell.queued, cell.retries = 3, 2, 1
    found = samples(scrape(counters))
    assert found["fusebox_upstream_requests_total", "timeout", "cf"] == 4
    assert found["fusebox_upstream_requests_total", "success", "cf"] == 0
    assert found["fusebox_upstream_seconds_count", "cf"] == 5
    assert found["fusebox_upstream_seconds_sum", "cf"] == 0.002
    assert found["fusebox_inflight", "cf"] == 3
    assert found["fusebox_queued", "cf"] == 2
    assert found["fusebox_retries_total", "cf"] == 1


def test_breakers_are_numbered_as_the_contract_says(counters):
    counters.transitions["cf", "open", "failure_rate"] += 2
    found = samples(scrape(counters, a="closed", b="half_open", c="open"))
    assert [found["fusebox_breaker_state", name] for name in "abc"] == [0, 1, 2]
    assert [found["fusebox_breaker_ramp_share", name] for name in "abc"] == [1, 0, 0]
    assert found["fusebox_breaker_transitions_total", "failure_rate", "open", "cf"] == 2


def test_a_ramp_shows_whom_it_lets_in(counters):
    found = samples(scrape(counters, cf="ramp"))
    assert found["fusebox_breaker_state", "cf"] == 0
    assert found["fusebox_breaker_ramp_share", "cf"] == pytest.approx(0.55)


def test_whom_the_flap_budget_holds_is_shown(counters):
    assert samples(scrape(counters))["fusebox_held_buckets",] == 0
    held = {None: ((10, 20), (500, 1_000)), Scope(region=("eu",)): ((0, 10_000),)}
    assert samples(scrape(counters, held=held))["fusebox_held_buckets",] == 510


def test_shadows_are_shown_by_result_with_how_far_they_agree(counters):
    cell = counters.shadow("films")
    cell.results["same"], cell.results["skipped_busy"] = 3, 2
    cell.agreed(0.75, 0.3)
    cell.agreed(1.0, 1.0)
    cell.real_seconds, cell.seconds = 0.5, 0.25
    found = samples(scrape(counters))
    assert found["fusebox_shadow_requests_total", "same", "films"] == 3
    assert found["fusebox_shadow_requests_total", "skipped_busy", "films"] == 2
    assert found["fusebox_shadow_requests_total", "failed", "films"] == 0
    assert [found["fusebox_shadow_overlap_bucket", le, "films"] for le in ("0.6", "0.8", "1.0", "+Inf")] == [
        0, 1, 2, 2,
    ]  # fmt: skip
    assert found["fusebox_shadow_overlap_sum", "films"] == 1.75
    assert found["fusebox_shadow_rank_agreement_sum", "films"] == pytest.approx(1.3)
    assert found["fusebox_shadow_rank_agreement_count", "films"] == 2
    assert found["fusebox_shadow_seconds_total", "real", "films"] == 0.5
    assert found["fusebox_shadow_seconds_total", "shadow", "films"] == 0.25


def test_actions_recorded_and_lost(counters):
    counters.actions["user.login", "done"] = 3
    counters.actions["user.login", "unknown"] = 1
    counters.audit_lost = 2
    found = samples(scrape(counters))
    assert found["fusebox_audit_actions_total", "user.login", "done"] == 3
    assert found["fusebox_audit_actions_total", "user.login", "unknown"] == 1
    assert found["fusebox_audit_lost_total",] == 2


def test_store_and_audit_log(counters):
    def now():
        return RecordsNow(
            store_up=False,
            audit_up=True,
            spool_bytes=4096,
            taken=7,
            damaged=1,
            checkpoints_sent=3,
            checkpoints_failed=2,
        )

    found = samples(scrape(counters, records=now))
    assert (found["fusebox_store_up",], found["fusebox_audit_up",]) == (0, 1)
    assert found["fusebox_audit_spool_bytes",] == 4096
    assert (found["fusebox_audit_taken_total",], found["fusebox_audit_damaged_total",]) == (7, 1)
    assert found["fusebox_audit_checkpoints_total", "sent"] == 3
    assert found["fusebox_audit_checkpoints_total", "failed"] == 2


def test_the_rest_of_the_counters_are_shown(counters):
    counters.refusals["no_route"] = 7
    counters.levels["D"] = 6
    counters.connections, counters.events_dropped = 5, 4
    counters.slots_asked, counters.slots_covered = 100, 25
    counters.unsticky = 3
    counters.signals_overflowed = 8
    found = samples(
        scrape(counters, toggles=Toggles(version=9, kill_switch=True, exposure_percent=12.5), age_s=12.5)
    )
    assert found["fusebox_refusals_total", "no_route"] == 7
    assert found["fusebox_recommend_level_total", "D"] == 6
    assert found["fusebox_connections",] == 5
    assert found["fusebox_events_dropped_total",] == 4
    assert found["fusebox_signals_overflowed_total",] == 8
    assert found["fusebox_coverage",] == 0.25
    assert found["fusebox_slots_asked_total",] == 100
    assert found["fusebox_slots_covered_total",] == 25
    assert found["fusebox_toggles_version",] == 9
    assert found["fusebox_kill_switch",] == 1
    assert found["fusebox_exposure_percent",] == 12.5
    assert found["fusebox_unsticky_requests_total",] == 3
    assert found["fusebox_policy_age_seconds",] == 12.5


def test_traffic_that_must_not_be_judged_is_shown_apart(counters):
    """Whoever sums up the usual families has none of it in the sum (facts 2.18)."""
    aside = counters.aside("override")
    aside.cell("films", "none").count(200, 0.004)
    aside.upstream("cf").outcomes["timeout"] += 1
    aside.levels["D"] += 1
    aside.slots_asked, aside.slots_covered = 10, 4
    found = samples(scrape(counters))
    assert found["fusebox_aside_requests_total", "none", "films", "2xx", "override"] == 1
    assert found["fusebox_aside_request_seconds_count", "none", "films", "override"] == 1
    assert found["fusebox_aside_upstream_requests_total", "timeout", "cf", "override"] == 1
    assert found["fusebox_aside_level_total", "D", "override"] == 1
    assert found["fusebox_aside_slots_total", "asked", "override"] == 10
    assert found["fusebox_aside_slots_total", "covered", "override"] == 4
    judged = {name for name in found if name[0].startswith(("fusebox_req", "fusebox_up", "fusebox_rec"))}
    assert not judged
    assert found["fusebox_slots_asked_total",] == 0


def test_the_cache_is_shown_by_result_with_what_it_holds(counters):
    counters.cache.update(hit=85, miss=10, stale=5, bypass=7)
    counters.cache_bytes, counters.cache_entries, counters.cache_evictions = 4_096, 3, 2
    counters.coalesced = 9
    counters.warm.update(asked=4, failed=1)
    counters.warm_left = 6
    counters.aside("override").cache["miss"] = 8
    found = samples(scrape(counters))
    results = {name: found["fusebox_cache_requests_total", name] for name in counters.cache}
    assert results == {"hit": 85, "miss": 10, "stale": 5, "bypass": 7}
    assert found["fusebox_aside_cache_requests_total", "miss", "override"] == 8
    assert found["fusebox_cache_bytes",] == 4_096
    assert found["fusebox_cache_entries",] == 3
    assert found["fusebox_cache_evictions_total",] == 2
    assert found["fusebox_coalesced_total",] == 9
    assert (found["fusebox_cache_warm_total", "asked"], found["fusebox_cache_warm_total", "failed"]) == (4, 1)
    assert found["fusebox_cache_warm_left",] == 6


def test_coverage_says_nothing_before_anything_was_asked(counters):
    assert ("fusebox_coverage",) not in samples(scrape(counters))


def test_process_metrics_are_on_the_page(counters):
    found = samples(scrape(counters))
    assert found["process_resident_memory_bytes",] > 0
    assert ("python_gc_collections_total", "2") in found


def test_a_scraper_that_asks_for_openmetrics_gets_a_page_that_parses_as_such(counters):
    counters.cell("pay", "").count(200, 0.1)
    counters.transitions["cf", "open", 'odd "rule"\n'] += 1
    page, content_type = scrape(counters, cf="open").render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(page.decode())}
    assert "fusebox_requests" in names
    assert page.endswith(b"# EOF\n")


def test_counting_between_two_scrapes_is_seen(counters):
    metrics = scrape(counters)
    assert ("fusebox_requests_total", "", "pay", "2xx") not in samples(metrics)
    counters.cell("pay", "").count(200, 0.1)
    assert samples(metrics)["fusebox_requests_total", "", "pay", "2xx"] == 1
