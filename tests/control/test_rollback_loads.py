"""What receiving upstreams take now, and have shown that they can."""

from proxy.control.rollback_loads import Loads
from proxy.core.capacity import NOTHING, Shown
from proxy.core.policy import Route, Sources
from proxy.core.rollback.headroom import Load
from proxy.telemetry.counters import Counters

ROUTES = (
    Route(name="r", path="/r", kind="recommend", sources=Sources(cf="cf", content="content")),
    Route(name="pay", path="/pay", upstream="payment"),
)


def test_of_the_content_sources_the_rate_of_the_last_ten_seconds_is_told():
    counters = Counters()
    loads = Loads(counters, lambda name: {"content": Shown(per_s=80.0)}.get(name, NOTHING))
    assert loads.look(ROUTES, 0.0) == {"content": Load(0.0, 80.0)}
    counters.upstream("content").outcomes["success"] += 30
    counters.upstream("content").outcomes["timeout"] += 20
    counters.upstream("content").outcomes["breaker_open"] += 500  # never left here
    assert loads.look(ROUTES, 5.0) == {"content": Load(10.0, 80.0)}
    for second in range(6, 17):
        told = loads.look(ROUTES, float(second))
    assert told == {"content": Load(0.0, 80.0)}


def test_without_such_a_route_nothing_is_told():
    assert Loads(Counters(), lambda _: NOTHING).look(ROUTES[1:], 0.0) == {}
