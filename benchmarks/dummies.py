"""The data plane in this process between dummies: what requests cost in Python, without kernel and loop.

What a client sends and what upstreams answer is fed to the connections as the loop would do it; what they
write is kept until the next write. Called with `MODE REQUESTS ORDERS` it serves so many requests to get warm
and as many once more: valgrind's callgrind counts these (see `Counted`).
"""

import asyncio
import os
import random
import shutil
import sys
import tempfile
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import actions
import decide
import servers
from harness import Unusable
from recommend import CANDIDATES, candidates

from proxy.dataplane.client import ClientConnection
from proxy.dataplane.plane import DataPlane
from proxy.dataplane.recording import Recorder
from proxy.runtime.process import settle_memory
from proxy.settings import load
from proxy.storage.spool import SpoolFile
from proxy.telemetry.counters import Counters

COUNTED = "PyNumber_MatrixMultiply"
"""The C function behind `@`: nobody but `Counted` multiplies matrices here."""

RECOMMENDATIONS = "/recommendations?user_id={user}&k=10"
BODY = servers.json_body(1024)

Step = tuple[Callable[[int], None], bytes]
"""Where bytes come in, and which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """What is asked, and the bodies that upstreams answer with, by the start of their paths."""

    target: str
    answers: dict[str, str]
    must_say: bytes  # in every answer: that it is the one meant
    kill: bool = False
    reordered: bool = False  # each client says its fields in another order
    own_answers: bool = False  # each answer of an upstream has an id and a length of its own
    sections: str = ""  # what else the settings say
    rules: int = 0  # scoped ones, none of which fits


def _forward(target: str = "/content/items/42", **more: Any) -> Mode:
    return Mode(target=target, answers={"/content/": BODY}, must_say=b"\r\n\r\n" + BODY[:10].encode(), **more)


def _blended(number: int = 0) -> Mode:
    """Under so many scoped rules, of which none fits."""
    return Mode(
        target=RECOMMENDATIONS,
        answers={"/candidates/cf": candidates(0), "/candidates/content": candidates(CANDIDATES // 2)},
        must_say=b'"level":"A"',
        rules=number,
    )


MODES = {
    "killed": Mode(target=RECOMMENDATIONS, answers={}, must_say=b'"source":"popularity"', kill=True),
    "forward": _forward(),
    "orders": _forward(reordered=True),
    "own-answers": _forward(own_answers=True),
    "recorded": _forward(actions.TARGET, sections=actions.RECORDED),
    "blended": _blended(),
    "rules": _blended(decide.RULES[-1]),
}


def word(number: int, factor: int) -> str:
    """As in `load.lua`: an odd factor gives each number of a cycle another word."""
    return f"{number * factor % 2**32:08x}"


def requests(mode: Mode, numbers: Sequence[int], orders: int) -> Iterator[bytes]:
    """Those that `load.lua` has wrk send, each with its own user and trace."""
    chance = random.Random(5)
    ways = [chance.sample(range(9), 9) for _ in range(orders)] if mode.reordered else [range(9)]
    for number in numbers:
        user = f"user-{word(number, 40503)}"
        trace = "".join(word(number, factor) for factor in (40503, 30011, 20011, 65537))
        span = word(number, 10007) + word(number, 50021)
        fields = (
            "Accept: application/json, text/plain, */*",
            f"X-User-Id: {user}",
            "Host: bench.example",
            "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/126.0 Safari/537.36",
            f"traceparent: 00-{trace}-{span}-01",
            "Accept-Encoding: gzip, deflate, br",
            "Accept-Language: en-GB,en;q=0.9,de;q=0.7",
            "X-Region: eu-west",
            "X-Client: web",
        )
        lines = [f"GET {mode.target.replace('{user}', user)} HTTP/1.1"]
        lines += [fields[at] for at in ways[number % len(ways)]]
        yield ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(mode: Mode, body: str, number: int) -> bytes:
    """That of an nginx: five fields, and a sixth where each answer has its own."""
    own = ""
    if mode.own_answers:
        own = f'ETag: "{word(number, 40503)}"\r\n'
        body += " " * (number % 512)
    return (
        "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{own}"
        f"Connection: keep-alive\r\n\r\n{body}"
    ).encode()


class Transport:
    """As much of an `asyncio.Transport` as the data plane asks for while all goes well."""

    def __init__(self) -> None:
        self.written: deque[bytes] = deque(maxlen=1)
        self.write = self.written.append

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 5) if name == "peername" else None

    def is_closing(self) -> bool:
        return False


class Loop(asyncio.SelectorEventLoop):
    """Connects to nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[asyncio.BufferedProtocol] = []

    async def create_connection(self, factory, *_: object, **__: object) -> tuple[Transport, object]:
        protocol, transport = factory(), Transport()
        protocol.connection_made(transport)
        self.opened.append(protocol)
        return transport, protocol


class Serving:
    """A client and a data plane by the benchmarks' settings, connected to as many upstreams as it needs."""

    def __init__(self, mode: Mode, orders: int) -> None:
        self._mode = mode
        self._orders = orders
        self._numbers = count()
        with tempfile.TemporaryDirectory(prefix="fusebox-bench-") as made:
            config = servers.settings(
                Path(made),
                9,
                port=1,
                admin=2,
                kill=mode.kill,
                sections=mode.sections,
                rules=decide.documented(decide.rules(mode.rules)),
            )
            settings = load(config, os.environ)
        policy = settings.policy()
        lasting = {
            name: replace(upstream, idle_s=servers.IDLE_S, max_connection_age_s=0.0)
            for name, upstream in policy.upstreams.items()
        }
        counters = Counters()
        spool = tempfile.mkdtemp(prefix="fusebox-bench-")
        weakref.finalize(self, shutil.rmtree, spool, ignore_errors=True)
        plane = DataPlane(
            replace(policy, upstreams=lasting),
            counters,
            on_transition=lambda _: None,
            recorder=Recorder(
                SpoolFile(Path(spool), limit=settings.audit.spool_bytes), counters, instance="bench"
            ),
        )
        self._client = ClientConnection(plane)
        self._client.connection_made(Transport())
        self._buffer = self._client.get_buffer(-1)  # one for all connections
        self._upstreams: list[tuple[asyncio.BufferedProtocol, str]] = []
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(self._connect())
        settle_memory()

    async def _connect(self) -> None:
        """The first request opens the connections, which stay."""
        opened = asyncio.get_running_loop().opened
        self.walk(self.steps(1)[0])
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
        for it in opened:
            asked = it.transport.written[-1].split()[1].decode()
            body = next(body for start, body in self._mode.answers.items() if asked.startswith(start))
            self._upstreams.append((it, body))
        self.walk([(it.buffer_updated, answer(self._mode, body, 0)) for it, body in self._upstreams])

    def steps(self, number: int) -> list[list[Step]]:
        """For each of so many requests that were not served before: itself, and then all answers to it."""
        numbers = list(islice(self._numbers, number))
        return [
            [
                (self._client.buffer_updated, request),
                *((it.buffer_updated, answer(self._mode, body, number)) for it, body in self._upstreams),
            ]
            for number, request in zip(numbers, requests(self._mode, numbers, self._orders), strict=True)
        ]

    def check(self, steps: Iterable[list[Step]]) -> None:
        """Serve requests; `Unusable` when an answer is not the one meant."""
        written = self._client.transport.written
        for of_one in steps:
            written.clear()
            self.walk(of_one)
            said = written[-1] if written else b""
            if not said.startswith(b"HTTP/1.1 200 ") or self._mode.must_say not in said:
                raise Unusable(f"not the answer that was meant: {said[:1000]!r}")

    def walk(self, steps: Iterable[Step]) -> None:
        """Serve requests: this is what is measured."""
        buffer = self._buffer
        for updated, data in steps:
            length = len(data)
            buffer[:length] = data
            updated(length)


def warm(mode: Mode, number: int, orders: int) -> Serving:
    """It has served so many requests twice, and as it should."""
    serving = Serving(mode, orders)
    seen = serving.steps(number)
    serving.check(seen)
    serving.walk(chain.from_iterable(seen))
    return serving


class Counted:
    """`Counted() @ work` works where callgrind counts."""

    def __matmul__(self, work: Callable[[], None]) -> None:
        work()


def main(name: str, number: str, orders: str) -> None:
    serving = warm(MODES[name], int(number), int(orders))
    steps = serving.steps(int(number))
    Counted() @ partial(serving.walk, list(chain.from_iterable(steps)))
    serving.check(steps)


if __name__ == "__main__":
    main(*sys.argv[1:])
