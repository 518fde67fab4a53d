"""What each of several workers may take of what the settings grant all of them together."""

from dataclasses import replace
from math import ceil

from proxy.core.policy import Policy, Upstream


def share_of(policy: Policy, workers: int) -> Policy:
    """The policy of one of so many workers: totals are divided, counts rounded up.

    Totals are `limits.connections`, `cache.max_bytes` and, of each upstream, `max_inflight`, `max_queue`
    and `retry_floor_per_s`. Rates, deadlines and the rules of breakers mean the same for any share.
    """
    if workers == 1:
        return policy
    return replace(
        policy,
        limits=replace(policy.limits, connections=ceil(policy.limits.connections / workers)),
        cache=replace(policy.cache, max_bytes=ceil(policy.cache.max_bytes / workers)),
        upstreams={name: _share(upstream, workers) for name, upstream in policy.upstreams.items()},
    )


def _share(upstream: Upstream, workers: int) -> Upstream:
    return replace(
        upstream,
        max_inflight=ceil(upstream.max_inflight / workers),
        max_queue=ceil(upstream.max_queue / workers),
        retry_floor_per_s=upstream.retry_floor_per_s / workers,
    )
