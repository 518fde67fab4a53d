"""How workers come, stay and go."""

import asyncio
import re
import signal

import aiohttp
import pytest
from load import Load

from proxy.tasks import spawn


async def test_workers_carry_traffic_say_which_they_are_and_end_with_0(crew):
    await crew.start(2, extra="[log]\naccess_sample = 1.0\n")
    async with Load(crew.box.listen) as load:
        await load.more(200)
    assert load.failures == []
    assert (await crew.box.api("GET", "/readyz"))[0] == 200
    assert [it["state"] for it in await crew.workers()] == ["serving", "serving"]
    assert await crew.box.terminate() == 0
    served = {line["worker"] for line in crew.box.lines if line["message"] == "request"}
    assert served == {1, 2}
    own = [line["message"] for line in crew.box.lines if "worker" not in line]
    assert own[-4:] == ["draining", "drained", "stopped", "(end of log)"]
    assert "Traceback" not in crew.box.told.decode()


async def test_a_drain_finishes_what_is_under_way_on_every_worker(crew, upstream):
    await crew.start(2)
    upstream.go.clear()
    under_way = [spawn(crew.box.get(f"/payment/{n}"), "request under way") for n in range(16)]
    async with asyncio.timeout(10):
        while len(upstream.paths) < 16:  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.01)
    crew.box.signal(signal.SIGTERM)
    await crew.box.logged("draining")
    assert (await crew.box.api("GET", "/readyz"))[1]["reasons"] == ["draining"]
    crew.box.signal(signal.SIGUSR2)  # means nothing any more
    upstream.go.set()
    assert {answer.status for answer in await asyncio.gather(*under_way)} == {200}
    assert await crew.box.ended() == 0


async def let_in(url):
    """Whether the kernel takes a connection there."""
    host, port = url.removeprefix("http://").split(":")
    try:
        _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


async def test_a_drain_lets_nobody_in_who_would_wait_for_its_end(crew, upstream):
    """Every worker inherits every door: one that still drains must not keep those of the others open."""
    await crew.start(3, drain_s=30.0)
    upstream.go.clear()
    under_way = spawn(crew.box.get("/payment/slow"), "request under way")
    await upstream.asked.wait()
    crew.box.signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        while await let_in(crew.box.listen):  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.01)
    upstream.go.set()
    assert (await under_way).status == 200
    assert await crew.box.ended() == 0


async def test_a_second_signal_aborts_the_drain_and_leaves_no_worker(crew, upstream):
    await crew.start(2)
    upstream.go.clear()
    under_way = spawn(crew.box.get("/payment/never"), "request under way")
    await upstream.asked.wait()
    crew.box.signal(signal.SIGTERM)
    await crew.box.logged("draining")
    crew.box.signal(signal.SIGTERM)
    assert await crew.box.ended() == 1  # the log has ended: nobody holds it any more
    with pytest.raises(aiohttp.ClientError):
        await under_way
    assert "Traceback" not in crew.box.told.decode()


async def test_workers_whose_supervisor_is_killed_drain_and_end(crew, upstream):
    await crew.start(2)
    upstream.go.clear()
    under_way = spawn(crew.box.get("/payment/slow"), "request under way")
    await upstream.asked.wait()
    crew.box.signal(signal.SIGKILL)
    await crew.box.logged("the supervisor is gone", nth=2)
    upstream.go.set()
    assert (await under_way).status == 200
    assert await crew.box.ended() == -signal.SIGKILL  # and the log has ended with the last worker


async def test_a_crash_loop_backs_off_is_seen_and_costs_no_connection(crew):
    await crew.start(2)
    for turn in range(1, 4):
        (first, *_) = await crew.serving(2)
        crew.signal(first["pid"], signal.SIGKILL)
        line = await crew.box.logged("worker 1 failed", turn)
        assert line["delay_s"] == [0, 0.5, 1][turn - 1]
    waiting, _ = await crew.until(lambda workers: workers[0]["state"] == "waiting")
    assert (waiting["restarts"], waiting["failed"]) == (3, "killed by SIGKILL")
    load = Load(crew.box.listen)
    for _ in range(40):  # at both doors; the other worker serves this one too
        connection = await load.connect()
        async with asyncio.timeout(0.5):
            assert (await connection.ask("GET", "/payment/1"))[0] == 200
        connection.writer.close()
    assert (await crew.workers())[0]["state"] == "waiting"
    await crew.serving(2)


async def test_a_worker_that_does_not_come_up_refuses_the_start(crew):
    crew.box.options = ("--workers", "2")
    crew.box.shadow = crew.box.directory / "shadow"
    crew.box.shadow.mkdir()
    (crew.box.shadow / "sitecustomize.py").write_text(
        "import sys\nif 'proxy.runtime.workers.worker' in sys.orig_argv:\n    import os\n    os._exit(3)\n"
    )
    await crew.box.launch()
    assert await crew.box.ended() == 1
    told = crew.box.told.decode()
    assert re.search(r"fusebox: worker [12] did not come up: exit status 3; the log says why", told)
    assert "Traceback" not in crew.box.told.decode()


async def test_without_a_worker_it_is_not_ready(crew):
    await crew.start(1)
    for turn in range(2):
        (only,) = await crew.serving(1)
        crew.signal(only["pid"], signal.SIGKILL)
        await crew.box.logged("worker 1 failed", turn + 1)
    status, told = await crew.box.api("GET", "/readyz")
    assert (status, told["reasons"]) == (503, ["no worker is ready"])
    assert (await crew.box.get("/payment/1")).status == 200  # it waited at the door
    assert (await crew.box.api("GET", "/readyz"))[0] == 200


@pytest.mark.parametrize(("first", "second"), [((), ("2",)), (("2",), ()), (("2",), ("2",))])
async def test_a_second_sidecar_on_the_address_is_refused(crew, tmp_path, upstream, first, second):
    box = crew.box
    box.options = tuple(f"--workers={count}" for count in first)
    await box.start()
    (tmp_path / "other").mkdir()
    other = type(box)(tmp_path / "other", upstream)
    other.write(listen=box.listen.removeprefix("http://"))
    other.options = tuple(f"--workers={count}" for count in second)
    await other.launch()
    try:
        assert await other.ended() == 1
        assert "(listen.address): Address already in use" in other.told.decode()
    finally:
        await other.clean_up()


async def test_signals_meant_for_a_group_end_no_worker(crew):
    await crew.start(2)
    before = await crew.pids()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        for pid in before:
            crew.signal(pid, number)
    await crew.box.get("/payment/1")
    assert await crew.pids() == before


async def test_breakers_by_hand_hold_on_every_worker_and_on_those_that_come(crew, upstream):
    await crew.start(2)
    status, told = await crew.box.api(
        "POST", "/v1/breakers/payment/open", crew.token, json={"reason": "drill"}
    )
    assert (status, told["state"], told["forced"], told["last"]["reason"]) == (200, "open", "open", "drill")
    before = await crew.pids()
    crew.signal(before[0], signal.SIGKILL)
    await crew.serving(2, but=before[:1])
    load = Load(crew.box.listen)
    for _ in range(20):
        connection = await load.connect()
        assert (await connection.ask("GET", "/payment/1"))[0] == 503
        connection.writer.close()
    assert upstream.paths == []
    await crew.box.api("POST", "/v1/breakers/payment/close", crew.token, json={"reason": "drill"})
    for _ in range(20):
        connection = await load.connect()
        assert (await connection.ask("GET", "/payment/1"))[0] == 200
        connection.writer.close()


async def test_the_log_level_follows_a_reload_on_every_worker(crew):
    await crew.start(2, extra="[log]\naccess_sample = 1.0\n")
    before = await crew.pids()
    crew.box.write(extra='[log]\nlevel = "error"\naccess_sample = 1.0\n')
    crew.box.signal(signal.SIGHUP)
    while (await crew.status())["reload"] is None:
        pass
    # Answered when every worker has heard it, and all that was said before it.
    await crew.box.api("POST", "/v1/breakers/cf/auto", crew.token, json={"reason": "drill"})
    crew.signal(before[0], signal.SIGKILL)
    await crew.serving(2, but=before[:1])
    for _ in range(20):
        connection = await Load(crew.box.listen).connect()
        assert (await connection.ask("GET", "/payment/1"))[0] == 200
        connection.writer.close()
    assert await crew.box.terminate() == 0
    assert [line for line in crew.box.lines if line["message"] == "request"] == []


SERIES = re.compile(r"^(fusebox_\w+(?:_total|_bucket|_count|_sum)(?:\{[^}]*\})?) (\S+)$", re.MULTILINE)


async def test_no_counter_goes_backwards_when_workers_are_replaced(crew):
    await crew.start(2)
    seen = {}

    async def scrape():
        _, page = await crew.box.api("GET", "/metrics")
        now = {name: float(value) for name, value in SERIES.findall(page)}
        assert seen.keys() <= now.keys()
        assert {name: (seen[name], now[name]) for name in seen if now[name] < seen[name]} == {}
        seen.update(now)

    async with Load(crew.box.listen) as load:
        await load.more(200)
        await scrape()
        crew.box.signal(signal.SIGUSR2)
        while not any(line["message"] == "rolling restart done" for line in crew.box.lines):
            await scrape()
        first, _ = await crew.serving(2)
        crew.signal(first["pid"], signal.SIGKILL)
        for _ in range(20):
            await scrape()
            await load.more(20)
        await crew.serving(2, but=[first["pid"]])
    answered = 'fusebox_requests_total{arm="none",route="payment",status_class="2xx"}'
    async with asyncio.timeout(10):
        while seen[answered] < load.answered - 2000:
            await scrape()
    assert seen["fusebox_worker_restarts_total"] == 1
