"""`X-Fusebox-Explanation`: what is said of an overridden request that asks why."""

from collections.abc import Sequence

import orjson

from proxy.core.explain import Explained, SourceTold, explanation
from proxy.core.override import ASIDES, EXPLAIN
from proxy.dataplane.binding import Bound
from proxy.dataplane.fetch import Fetch
from proxy.dataplane.request_head import RequestHead


def explained(head: RequestHead, bound: Bound, body: bytes, fetches: Sequence[Fetch]) -> bytes:
    """The line for the answer with this body; empty where nobody may ask, or has asked."""
    if bound.decision.aside not in ASIDES or head.fields.get(EXPLAIN) != b"1":
        return b""
    overridden = head.overridden
    told = Explained(
        who=overridden.who,
        bucket=head.bucket,
        inside=overridden.inside,
        toggles=overridden.toggles,
        version=bound.version,
        decision=bound.decision,
        verified=overridden.verified,
        sources=[_told(fetch) for fetch in fetches],
        answer=orjson.loads(body),
        shown=overridden.shown,
    )
    return b"X-Fusebox-Explanation: %b\r\n" % explanation(told)


def _told(fetch: Fetch) -> SourceTold:
    breaker = fetch.pool.breaker
    return SourceTold(
        kind=fetch.kind,
        upstream=fetch.pool.name,
        outcome=fetch.outcome,
        items=len(fetch.items.items) if fetch.items else 0,
        milliseconds=round(fetch.milliseconds, 1),
        cache=fetch.cache,
        breaker=f"held {breaker.forced}" if breaker.forced else breaker.state,
    )
