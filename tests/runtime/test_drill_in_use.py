"""`fusebox drill toggles` against a real sidecar process with two small recommenders behind it."""

import asyncio
import json
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.core.roles import Role

TOML = """
[upstreams.cf]
url = "http://127.0.0.1:{port}"
candidates_path = "/cf"
[upstreams.content]
url = "http://127.0.0.1:{port}"
candidates_path = "/content"
[[routes]]
name = "films"
path = "/films"
kind = "recommend"
sources = {{ cf = "cf", content = "content" }}
{more}
"""


class Recommenders:
    """Both, each with films of its own for everybody; a broken one answers 500."""

    def __init__(self):
        self.asked = []
        self.broken = ""

    async def start(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                url = urlsplit(head.split(b" ")[1].decode())
                kind = url.path.strip("/")
                self.asked.append(kind)
                k = int(parse_qs(url.query)["k"][0])
                items = [
                    {"id": f"{kind}{n}", "score": 1 - n / 100, "title": f"F {n}", "year": 1999,
                     "genres": ["Drama"]}
                    for n in range(k)
                ]  # fmt: skip
                body = json.dumps({"items": items}).encode()
                status = b"500 Oh" if self.broken == kind else b"200 OK"
                writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            writer.close()


@pytest.fixture
async def recommenders():
    made = Recommenders()
    await made.start()
    yield made
    made.server.close()


@pytest.fixture
async def drill(box, recommenders):
    """A sidecar in order, and the drill run on it; gives its exit code and what it printed as JSON."""
    box.upstream.port = recommenders.port

    async def drill(*words, more=""):
        if box.process is None:
            settings = box.settings.read_text().partition("[upstreams.")[0]
            box.settings.write_text(settings + TOML.format(port=recommenders.port, more=more))
            await box.start()
        command = (
            *("drill", "toggles", "--config", str(box.settings), "--url", box.listen, "--json"),
            *("--users", "4", "--requests", "2", "--admin", box.admin, "--token", box.token()),
            *words,
        )
        result = await asyncio.to_thread(CliRunner().invoke, main, command)
        assert result.stdout, result.stderr
        return result.exit_code, json.loads(result.stdout)

    return drill


def failed(found):
    return {(it["mode"], it["name"]) for it in found["criteria"] if not it["holds"]}


async def aside(box):
    """Requests counted as real ones, and those set aside."""
    _, metrics = await box.api("GET", "/metrics")
    lines = [line for line in metrics.splitlines() if 'route="films"' in line and "_requests_total{" in line]
    counted = dict.fromkeys(("fusebox_requests_total", "fusebox_aside_requests_total"), 0)
    for line in lines:
        counted[line.split("{")[0]] += int(float(line.split()[-1]))
    return tuple(counted.values())


EXPERIMENT = '[experiment]\nname = "hybrid_v1"\n'


async def test_a_sidecar_in_order_passes_and_nothing_of_it_is_judged(drill, box, recommenders):
    code, found = await drill(more=EXPERIMENT)
    assert code == 0, found
    assert (found["ok"], len(found["criteria"])) == (True, 23)
    made = {it["mode"]: it["items"] for it in found["modes"]}
    assert (made["content only"], made["collaborative only"]) == ({"content": 80}, {"cf": 80})
    assert made["emergency popularity"] == {"popularity": 80}
    assert await aside(box) == (0, 40)


async def test_a_broken_source_is_found_behind_full_answers(drill, recommenders):
    """Popularity rescues the users, and must not make the drill look as if the mode worked."""
    recommenders.broken = "cf"
    code, found = await drill()
    assert code == 1
    assert failed(found) == {("collaborative only", "made by")}


async def test_making_its_overrides_is_recorded(drill, box):
    await drill()
    viewer = box.token(Role.VIEWER)
    entries = []
    async with asyncio.timeout(20):
        while not entries:
            await asyncio.sleep(0.05)
            _, log = await box.api("GET", "/v1/audit?action=override.sign", viewer)
            entries = log.get("entries")
    (entry,) = entries
    assert (entry["reason"], entry["after"]["by"]) == ("fusebox drill toggles", "drill")


async def test_a_key_that_is_not_the_sidecars_is_told(drill, box):
    """As with the settings of another one."""
    await box.start()
    (box.directory / "var" / "signing.key").write_bytes(b"x" * 32)
    code, found = await drill()
    assert code == 1
    assert all("does not bear this sidecar's signature" in it["faults"][0] for it in found["modes"])
