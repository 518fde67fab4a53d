"""A run that kept every promise, and what each way of breaking one does to the verdict."""

from collections import Counter
from dataclasses import replace

import pytest

from proxy.demo.seen import Effect, Refusal, Seen
from proxy.demo.story import Phase
from proxy.demo.verdict import Evidence, judge


def refusal(code="breaker_open", kind="payment", phase=Phase.PAYMENT_BREAKS, seconds=0.002):
    return Refusal(kind=kind, sent_in=phase, answered_in=phase, code=code, seconds=seconds)


def sound() -> Evidence:
    seen = Seen()
    for phase in Phase:
        seen.begin(phase)
        seen.phases[phase].seconds = [0.003] * 100
        seen.phases[phase].sources = Counter(popularity=500)
    seen.payments = [Effect("p0", 1, "payment-1"), Effect("p1", 3, "payment-2")]
    seen.emails = [Effect("e0", 1, "email-1")]
    seen.refusals = [refusal(), refusal("upstream_unreachable")]
    return Evidence(
        seen=seen,
        ledger={"payment-1": "p0", "payment-2": "p1"},
        outbox={"email-1": "e0"},
        asked_while_killed={"cf": 0, "content": 0},
        transitions={
            ("cf", "open"): 2,
            ("cf", "closed"): 1,
            ("payment", "open"): 1,
            ("payment", "closed"): 1,
        },
        sidecar_exit=0,
    )


def broken(evidence: Evidence) -> list[str]:
    return [promise.text for promise in judge(evidence) if not promise.kept]


def test_a_sound_run_keeps_every_promise():
    assert broken(sound()) == []


def flawed_answer(evidence):
    evidence.seen.phases[Phase.HEALTHY].flaws["49 items instead of 50"] += 1


def no_answers(evidence):
    for phase in evidence.seen.phases.values():
        phase.seconds.clear()
        phase.sources.clear()


def slow_while_hanging(evidence):
    evidence.seen.phases[Phase.CF_HANGS].seconds[:2] = [0.9, 0.9]


def slow_refusals(evidence):
    evidence.seen.refusals[0] = refusal(seconds=0.5)


def no_breaker_open(evidence):
    del evidence.seen.refusals[0]


def asked_a_recommender(evidence):
    evidence.asked_while_killed["content"] = 1


def answered_from_cf(evidence):
    evidence.seen.phases[Phase.KILLED].sources["cf"] = 1


def paid_twice(evidence):
    evidence.ledger["payment-3"] = "p1"


def paid_without_order(evidence):
    evidence.ledger["payment-3"] = "p7"


def never_paid(evidence):
    del evidence.ledger["payment-2"]
    evidence.seen.payments[1].receipt = ""


def never_confirmed(evidence):
    evidence.seen.payments[1].receipt = ""


def pretended_success(evidence):
    evidence.seen.payments[1].receipt = "payment-99"


def mailed_twice(evidence):
    evidence.outbox["email-2"] = "e0"


def email_failed(evidence):
    evidence.seen.refusals.append(refusal("upstream_timeout", kind="email"))


def payment_failed_early(evidence):
    evidence.seen.refusals.append(refusal("502", phase=Phase.HEALTHY))


def cf_never_opened(evidence):
    del evidence.transitions["cf", "open"]


def cf_never_closed(evidence):
    del evidence.transitions["cf", "closed"]


def payment_never_closed(evidence):
    del evidence.transitions["payment", "closed"]


@pytest.mark.parametrize(
    ("change", "promise"),
    [
        (flawed_answer, "every recommend answer"),
        (slow_while_hanging, "p99 while cf hangs"),
        (slow_refusals, "broken payments fail fast"),
        (no_breaker_open, "broken payments fail fast"),
        (asked_a_recommender, "while killed"),
        (answered_from_cf, "while killed"),
        (paid_twice, "each payment is made"),
        (paid_without_order, "each payment is made"),
        (never_paid, "each payment is made"),
        (never_confirmed, "each payment is made"),
        (pretended_success, "each payment is made"),
        (mailed_twice, "each email is sent"),
        (email_failed, "no write fails otherwise"),
        (payment_failed_early, "no write fails otherwise"),
        (cf_never_opened, "cf's breaker"),
        (cf_never_closed, "cf's breaker"),
        (payment_never_closed, "payment's breaker"),
    ],
)
def test_each_broken_promise_is_told_and_no_other(change, promise):
    evidence = sound()
    change(evidence)
    assert [text.startswith(promise) for text in broken(evidence)] == [True]


def test_a_sidecar_that_ended_badly_breaks_a_promise():
    assert len(broken(replace(sound(), sidecar_exit=-9))) == 1


def test_nothing_seen_is_nothing_proved():
    evidence = sound()
    no_answers(evidence)
    evidence.asked_while_killed.clear()
    assert len(broken(evidence)) == 3


def test_a_payment_sent_just_before_the_fault_may_fail_in_it():
    evidence = sound()
    evidence.seen.refusals.append(
        Refusal(
            kind="payment",
            sent_in=Phase.CF_RETURNS,
            answered_in=Phase.PAYMENT_BREAKS,
            code="upstream_invalid",
            seconds=0.01,
        )
    )
    assert broken(evidence) == []
