"""The demo's promises, judged after the run from what clients, upstreams and sidecar counted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proxy.demo.seen import Effect, Recommended, Seen, percentile
from proxy.demo.settings_file import RECOMMEND_DEADLINE_MS
from proxy.demo.story import Phase

FAST_S = 0.1
"""A breaker refuses fast when half of its refusals take less, seen from the client."""

PAYMENT_TROUBLE = (Phase.PAYMENT_BREAKS, Phase.PAYMENT_RETURNS)
"""When payments may fail: while it is broken, and until its breaker has let everyone in again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything the verdict rests on."""

    seen: Seen
    ledger: Mapping[str, str]  # payments really made: id → key
    outbox: Mapping[str, str]  # emails really sent: id → key
    asked_while_killed: Mapping[str, int]  # requests that reached the recommenders, by upstream
    transitions: Mapping[tuple[str, str], int]  # (upstream, to) → how often, not by hand
    sidecar_exit: int  # after SIGTERM


@dataclass(frozen=True, slots=True)
class Promise:
    """What was promised, whether it was kept, and the numbers that say so."""

    text: str
    kept: bool
    measure: str


def judge(evidence: Evidence) -> list[Promise]:
    """One promise a line, in the order in which the story puts them to the test."""
    seen = evidence.seen
    return [
        _filled(seen),
        _steady(seen),
        _recovered("cf", evidence.transitions),
        _fast(seen),
        _recovered("payment", evidence.transitions),
        _once("payment", "made", seen.payments, evidence.ledger),
        _once("email", "sent", seen.emails, evidence.outbox),
        _killed(seen, evidence.asked_while_killed),
        _otherwise(seen),
        Promise(
            "sidecar drains and ends when asked", evidence.sidecar_exit == 0, f"exit {evidence.sidecar_exit}"
        ),
    ]


def _filled(seen: Seen) -> Promise:
    answers = sum(len(phase.seconds) for phase in seen.phases.values())
    flaws: Counter[str] = sum((phase.flaws for phase in seen.phases.values()), Counter())
    measure = f"{answers - flaws.total()} of {answers}"
    if flaws:
        measure += f": {_listed(flaws)}"
    return Promise(
        "every recommend answer is 200 with exactly k unique films", answers > 0 and not flaws, measure
    )


def _steady(seen: Seen) -> Promise:
    seconds = seen.phases[Phase.CF_HANGS].seconds if Phase.CF_HANGS in seen.phases else []
    p99 = percentile(seconds, 0.99) * 1000
    return Promise(
        f"p99 while cf hangs stays below {RECOMMEND_DEADLINE_MS} ms",
        bool(seconds) and p99 < RECOMMEND_DEADLINE_MS,
        f"{p99:.0f} ms over {len(seconds)} answers",
    )


def _recovered(upstream: str, transitions: Mapping[tuple[str, str], int]) -> Promise:
    opened, closed = transitions.get((upstream, "open"), 0), transitions.get((upstream, "closed"), 0)
    return Promise(
        f"{upstream}'s breaker opens and closes again by itself",
        opened > 0 and closed > 0,
        f"opened {opened}x, closed {closed}x",
    )


def _fast(seen: Seen) -> Promise:
    seconds = [refusal.seconds for refusal in seen.refusals if refusal.code == "breaker_open"]
    p50 = percentile(seconds, 0.5)
    return Promise(
        "broken payments fail fast with breaker_open",
        bool(seconds) and p50 < FAST_S,
        f"{len(seconds)} refusals, p50 {p50 * 1000:.1f} ms",
    )


def _once(noun: str, done: str, wanted: Sequence[Effect], book: Mapping[str, str]) -> Promise:
    """Every key once in the book, and nothing told the client of an effect that is not there."""
    times = Counter(book.values())
    keys = {effect.key for effect in wanted}
    faults = Counter[str]()
    faults[f"{done} twice"] = sum(count > 1 for count in times.values())
    faults["nobody asked for"] = len(times.keys() - keys)
    faults[f"never {done}"] = len(keys - times.keys())
    faults["never confirmed"] = sum(not effect.receipt for effect in wanted)
    faults["confirmed falsely"] = sum(
        bool(effect.receipt) and book.get(effect.receipt) != effect.key for effect in wanted
    )
    again = sum(effect.attempts > 1 for effect in wanted)
    measure = f"{len(book)} {done} for {len(wanted)} keys, {again} after another try"
    if faults := +faults:
        measure += f": {_listed(faults)}"
    return Promise(f"each {noun} is {done} exactly once", bool(wanted) and not faults, measure)


def _killed(seen: Seen, asked: Mapping[str, int]) -> Promise:
    phase = seen.phases.get(Phase.KILLED, Recommended())
    others = Counter({source: count for source, count in phase.sources.items() if source != "popularity"})
    measure = (
        f"{len(phase.seconds)} answers, {sum(asked.values())} requests to {' and '.join(asked) or 'nobody'}"
    )
    if others:
        measure += f", films from {_listed(others)}"
    return Promise(
        "while killed, popularity answers and no recommender is asked",
        phase.sources["popularity"] > 0 and bool(asked) and not any(asked.values()) and not others,
        measure,
    )


def _otherwise(seen: Seen) -> Promise:
    unexpected = Counter(
        f"{refusal.kind} {refusal.code} in '{refusal.sent_in}'"
        for refusal in seen.refusals
        if not (
            refusal.kind == "payment"
            and (refusal.sent_in in PAYMENT_TROUBLE or refusal.answered_in in PAYMENT_TROUBLE)
        )
    )
    return Promise("no write fails otherwise", not unexpected, _listed(unexpected) or "none did")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.most_common(4))
