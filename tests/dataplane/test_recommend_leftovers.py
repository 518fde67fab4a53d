"""A recommend request that is over leaves nothing for the collector."""

import gc

from harness import Wire, reply
from rig import sidecar

from proxy.core.policy import Film, Route, Sources
from proxy.dataplane.fetch import Fetch
from proxy.dataplane.recommend import Recommend

FILMS = (Film(id="1", title="t", year=1999, genres=("a",), providers=(), score=1.0),)
ROUTES = (Route(name="rec", path="/", kind="recommend", sources=Sources(cf="up", content="up")),)


async def test_a_finished_request_is_no_cycle() -> None:
    """Its source calls point back to it: without a cut only the collector would free them."""

    async def source(wire: Wire) -> None:
        while True:
            await wire.request()
            wire.send(reply(b'{"items":[{"id":"1","score":1}]}'))

    async with sidecar(source, routes=ROUTES, popularity=FILMS) as rig:
        gc.collect()
        gc.disable()
        try:
            assert (await rig.ask(b"GET /?k=1 HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200
            assert not [found for found in gc.get_objects() if type(found) in {Fetch, Recommend}]
        finally:
            gc.enable()
