"""What each of several workers may take of what the settings grant all of them together."""

from dataclasses import replace
from math import ceil

from proxy.core.policy import Policy, Route, Upstream


def share_of(policy: Policy, workers: int) -> Policy:
    """The policy of one of so many workers: totals are divided, counts rounded up.

    Totals are `limits.connections`, `cache.max_bytes`, `cache.warm_per_s`, of each upstream `max_inflight`,
    `max_queue` and `retry_floor_per_s`, of each route `shadow.max_inflight`. Other rates, deadlines and the
    rules of breakers mean the same for any share.
    """
    if workers == 1:
        return policy
    return replace(
        policy,
        limits=replace(policy.limits, connections=ceil(policy.limits.connections / workers)),
        cache=replace(
            policy.cache,
            max_bytes=ceil(policy.cache.max_bytes / workers),
            warm_per_s=policy.cache.warm_per_s / workers,
        ),
        upstreams={name: _share(upstream, workers) for name, upstream in policy.upstreams.items()},
        routes=tuple(_shadow_share(route, workers) for route in policy.routes),
    )


def _share(upstream: Upstream, workers: int) -> Upstream:
    return replace(
        upstream,
        max_inflight=ceil(upstream.max_inflight / workers),
        max_queue=ceil(upstream.max_queue / workers),
        retry_floor_per_s=upstream.retry_floor_per_s / workers,
    )


def _shadow_share(route: Route, workers: int) -> Route:
    shadow = route.shadow
    if not shadow.percent:
        return route
    return replace(route, shadow=replace(shadow, max_inflight=ceil(shadow.max_inflight / workers)))
