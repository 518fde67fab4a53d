"""What one of several workers gets of a total."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.policy import Limits, Policy, Route, Shadow, Upstream
from proxy.core.shares import share_of


def policy(**upstream):
    return Policy(
        routes=(Route(name="pay", path="/pay/", upstream="pay"),),
        upstreams={"pay": Upstream(url="http://a", **upstream)},
        limits=Limits(connections=1001),
    )


def test_one_worker_gets_all():
    assert share_of(policy(), 1) == policy()


def test_totals_are_divided_and_rounded_up_and_nothing_else_changes():
    whole = policy(max_inflight=10, max_queue=1, retry_floor_per_s=3.0)
    share = share_of(whole, 4)
    upstream = share.upstreams["pay"]
    assert (share.limits.connections, share.cache.max_bytes) == (251, whole.cache.max_bytes // 4)
    assert (upstream.max_inflight, upstream.max_queue, upstream.retry_floor_per_s) == (3, 1, 0.75)
    divided = {"max_inflight": 10, "max_queue": 1, "retry_floor_per_s": 3.0}
    assert replace(upstream, **divided) == whole.upstreams["pay"]
    assert replace(share, limits=whole.limits, cache=whole.cache, upstreams=whole.upstreams) == whole


def test_copies_at_once_are_a_total_too():
    shadow = Shadow(percent=1.0, upstream="pay", max_inflight=10)
    whole = policy()
    whole = replace(whole, routes=(replace(whole.routes[0], shadow=shadow),))
    (route,) = share_of(whole, 4).routes
    assert route.shadow == replace(shadow, max_inflight=3)


def test_no_queue_stays_no_queue():
    assert share_of(policy(max_queue=0), 3).upstreams["pay"].max_queue == 0


@given(total=st.integers(1, 100_000), workers=st.integers(1, 256))
def test_together_they_have_the_total_and_less_than_one_more_each(total, workers):
    each = share_of(policy(max_inflight=total), workers).upstreams["pay"].max_inflight
    assert total <= each * workers < total + workers
