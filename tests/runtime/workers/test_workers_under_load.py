"""No request fails that need not: workers replaced, killed and reloaded while clients ask."""

import asyncio
import signal

from load import Load, posts

from proxy.clock import monotonic


def unique(upstream):
    seen = posts(upstream.paths)
    return seen and len(seen) == len(set(seen))


async def test_a_rolling_restart_fails_no_request_and_sends_no_post_twice(crew, upstream):
    await crew.start(2)
    before = await crew.pids()
    async with Load(crew.box.listen) as load:
        crew.box.signal(signal.SIGUSR2)
        await crew.box.logged("rolling restart done")
        workers = await crew.serving(2, but=before)
        await load.more(300)
    assert load.failures == []
    assert unique(upstream)
    assert [it["restarts"] for it in workers] == [0, 0]  # nothing has failed


async def test_reloads_fail_no_request(crew, upstream):
    await crew.start(2)
    async with Load(crew.box.listen) as load:
        for turn in range(1, 4):
            crew.box.write(routes=("/payment/", f"/email{turn}/"))
            crew.box.signal(signal.SIGHUP)
            await crew.box.logged("reloaded", turn)
            await load.more(50)
            assert (await crew.box.get(f"/email{turn}/1")).status == 200
    assert load.failures == []
    assert unique(upstream)


async def test_a_worker_that_is_killed_costs_what_was_under_way_on_it_and_no_more(crew, upstream):
    await crew.start(2)
    before = await crew.pids()
    async with Load(crew.box.listen) as load:
        await load.more(100)
        crew.signal(before[0], signal.SIGKILL)
        killed_at = monotonic()
        workers = await crew.serving(2, but=before[:1])
        assert monotonic() - killed_at < 5
        await load.more(300)
    assert 0 < len(load.failures) <= 12, load.failures  # as many as there are connections
    assert all(it.connected_at < killed_at + 0.05 for it in load.failures), load.failures
    assert all("Refused" not in it.cause for it in load.failures)
    assert [(it["number"], it["restarts"], it["failed"]) for it in workers] == [
        (1, 1, "killed by SIGKILL"),
        (2, 0, ""),
    ]
    assert workers[1]["pid"] == before[1]
    line = await crew.box.logged("worker 1 failed: killed by SIGKILL; a new one starts at once")
    assert line["level"] == "error"


async def test_after_the_answer_to_a_kill_no_request_reaches_an_upstream(crew, upstream):
    await crew.start(3)
    async with Load(crew.box.listen, posts=0) as load:
        load.paths = dict.fromkeys(load.paths, "/recommendations?user_id=before&k=5")
        await load.more(100)
        status, _ = await crew.box.api("PUT", "/v1/kill", crew.token, json={"reason": "drill"})
        assert status == 200
        load.paths = dict.fromkeys(load.paths, "/recommendations?user_id=after&k=5")
        await load.more(500)
    assert load.failures == []
    assert any("user_id=before" in path for path in upstream.paths)
    assert not any("user_id=after" in path for path in upstream.paths)


async def test_a_worker_that_hangs_does_not_outlast_a_kill(crew, upstream):
    await crew.start(2)
    before = await crew.pids()
    crew.signal(before[1], signal.SIGSTOP)
    began = monotonic()
    status, state = await crew.box.api("PUT", "/v1/kill", crew.token, json={"reason": "drill"})
    assert (status, state["kill"]) == (200, True)
    assert monotonic() - began < 5
    assert before[1] not in await crew.pids()  # with the answer it is gone, not some time later
    workers = await crew.serving(2, but=before[1:])
    assert "did not confirm a change" in workers[1]["failed"]
    answers = await asyncio.gather(*(crew.box.get("/recommendations?user_id=u&k=5") for _ in range(30)))
    assert {answer.status for answer in answers} == {200}
    assert upstream.paths == []  # the new worker has begun with the switch on
