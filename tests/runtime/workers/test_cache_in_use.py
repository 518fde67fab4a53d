"""The cache of a sidecar with workers: settings, warm list, metrics, troubles, as an operator meets them."""

import asyncio
import contextlib
import json
import re
import signal

import pytest

from proxy.tasks import spawn

WORKERS = 2
USERS = 6


class Source:
    """Answers candidates, and counts how often it was asked for each target."""

    def __init__(self):
        self.targets = []

    async def serve(self, reader, writer):
        items = [{"id": f"f{n}", "score": 1 - n / 100} for n in range(50)]
        body = json.dumps({"items": items}).encode()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.targets.append(head.split(b" ")[1].decode())
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()


@pytest.fixture
async def source():
    source = Source()
    server = await asyncio.start_server(source.serve, "127.0.0.1", 0)
    source.port = server.sockets[0].getsockname()[1]
    yield source
    server.close()


def settings(box, source, *, cache, mode="prewarm"):
    box.write(extra=f"[cache]\n{cache}\n")
    text = box.settings.read_text()
    start, _, rest = text.partition("[upstreams.cf]\n")
    text = start + "[upstreams.cf]\n" + re.sub(r"127.0.0.1:\d+", f"127.0.0.1:{source.port}", rest, count=1)
    box.settings.write_text(text)
    toggles = json.loads((box.directory / "toggles.json").read_text())
    toggles["toggles"]["cache_mode"] = mode
    (box.directory / "toggles.json").write_text(json.dumps(toggles))


def list_users(box, count=USERS):
    (box.directory / "warm.json").write_text(json.dumps([f"user_id={user}&k=5" for user in range(count)]))


async def metric(box, name):
    page = (await box.api("GET", "/metrics"))[1]
    found = [line.split(" ")[1] for line in page.splitlines() if line.startswith(f"{name} ")]
    return float(found[0]) if found else None


async def until_metric(box, name, value):
    async with asyncio.timeout(20):
        while await metric(box, name) != value:  # noqa: ASYNC110 - other processes do it
            await asyncio.sleep(0.02)


async def ask(box, user):
    """What an answer says of the cache, and how many items it has."""
    async with box.session.get(f"{box.listen}/recommendations?user_id={user}&k=5") as response:
        document = await response.json()
    return document["metadata"]["cache"], len(document["items"])


async def test_every_worker_warms_its_own_and_what_they_have_is_told_as_one(crew, source):
    box = crew.box
    settings(box, source, cache='warm_file = "warm.json"\nwarm_per_s = 400')
    list_users(box)
    await crew.start(WORKERS)
    await until_metric(box, "fusebox_cache_entries", WORKERS * USERS)
    assert await metric(box, 'fusebox_cache_warm_total{result="asked"}') == WORKERS * USERS
    assert await metric(box, "fusebox_cache_warm_left") == 0
    assert (await metric(box, "fusebox_cache_bytes")) > WORKERS * USERS * 1_000
    asked = len(source.targets)
    assert [await ask(box, user) for user in range(USERS)] == [("hit", 5)] * USERS
    assert len(source.targets) == asked == WORKERS * USERS
    await until_metric(box, 'fusebox_cache_requests_total{result="hit"}', USERS)
    assert await metric(box, 'fusebox_upstream_requests_total{outcome="success",upstream="cf"}') == 0
    assert (await crew.status())["troubles"] == []

    # One is replaced, and cannot read the list any more: told as trouble, and served all the same.
    (box.directory / "warm.json").write_text("{}")
    first = await crew.pids()
    crew.signal(first[0], signal.SIGKILL)
    async with asyncio.timeout(20):
        while not (troubles := (await crew.status())["troubles"]):  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.02)
    assert "warm list" in troubles[0]
    await box.logged("the warm list cannot be used")
    assert await ask(box, 99) == ("miss", 5)

    # A reload with such a list changes nothing; with a good one all is well again.
    box.signal(signal.SIGHUP)
    refused = await box.logged("reload refused")
    assert "should be a list of queries" in " ".join(refused["problems"])
    list_users(box)
    box.signal(signal.SIGHUP)
    await box.logged("reloaded")
    await until_metric(box, "fusebox_cache_warm_left", 0)
    async with asyncio.timeout(20):
        while (await crew.status())["troubles"]:  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.02)


async def test_identical_requests_at_one_moment_are_one_call_in_each_worker(crew, source):
    box = crew.box
    settings(box, source, cache="max_bytes = 0", mode="cold")
    await crew.start(WORKERS)
    answers = await asyncio.gather(*(spawn(ask(box, 7), "ask") for _ in range(40)))
    assert answers == [("bypass", 5)] * 40
    assert len(source.targets) <= 40
    assert await metric(box, "fusebox_cache_entries") == 0
