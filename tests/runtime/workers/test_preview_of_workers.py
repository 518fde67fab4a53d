"""A preview over several workers: each tells what it decided from, and what one that died had told stays."""

import asyncio
import signal

from proxy.core.roles import Role


async def preview(crew, viewer, holds, **toggles):
    """The preview, once `holds(preview)`: workers tell theirs a quarter of a second later."""
    async with asyncio.timeout(20):
        while True:
            status, found = await crew.box.api(
                "POST", "/v1/toggles/preview", viewer, json={"toggles": toggles}
            )
            assert status == 200, found
            if holds(found):
                return found
            await asyncio.sleep(0.1)


async def test_it_counts_the_requests_of_all_workers_and_of_one_that_died(crew):
    await crew.start(2)
    viewer = crew.box.token(Role.VIEWER)
    for user in range(30):
        # a connection each, so that both workers get some
        await crew.box.get(f"/recommendations?k=2&user_id=u{user}", headers={"Connection": "close"})
    found = await preview(crew, viewer, lambda it: it["requests"] == 30, kill_switch=True)
    assert (found["users"], found["changed"]["users"]) == (30, 30)
    assert [it["after"]["policy"] for it in found["moves"]] == ["kill_switch"]
    assert {it["upstream"]: it["after_per_s"] for it in found["upstreams"]} == {"cf": 0.0}
    pids = await crew.pids()
    crew.signal(pids[0], signal.SIGKILL)
    await crew.serving(2, but=pids[:1])
    await crew.box.get("/recommendations?k=2&user_id=one-more")
    found = await preview(crew, viewer, lambda it: it["requests"] == 31, disable_cf=True)
    assert found["users"] == 31
