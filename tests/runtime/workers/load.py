"""Clients that ask without a pause and forgive nothing: kept connections, new ones, numbered POSTs."""

import asyncio
import contextlib
import itertools
from dataclasses import dataclass

from proxy.clock import monotonic
from proxy.tasks import spawn

PATIENCE_S = 15


@dataclass
class Failure:
    """A request without its whole answer."""

    connected_at: float
    request: str
    cause: str


class Connection:
    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer
        self.at = monotonic()

    async def ask(self, method, path):
        """Status, body, and whether the connection stays; anything else raises."""
        length = "Content-Length: 0\r\n" if method == "POST" else ""
        self.writer.write(f"{method} {path} HTTP/1.1\r\nHost: a\r\n{length}\r\n".encode())
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        body = await self.reader.readexactly(length)
        return int(head.split(" ")[1]), body, "connection: close" not in head


class Load:
    """`async with Load(url): …` keeps them asking; the paths they ask for can change under way.

    Each kind of client asks for `paths[kind]`, where `{}` is the number of the request.
    """

    def __init__(self, url, *, kept=6, new=3, posts=3):
        self.host, self.port = url.removeprefix("http://").split(":")
        self.paths = {"kept": "/payment/kept", "new": "/payment/new", "post": "/payment/post-{}"}
        self.clients = {"kept": kept, "new": new, "post": posts}
        self.answered = 0
        self.failures = []
        self._numbers = itertools.count(1)
        self._over = False

    async def __aenter__(self):
        self._tasks = [
            spawn(self._client(kind), kind) for kind, count in self.clients.items() for _ in range(count)
        ]
        await self.more(50)
        return self

    async def __aexit__(self, *_):
        self._over = True
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*self._tasks)

    async def more(self, answers):
        """Wait for so many more answers."""
        wanted = self.answered + answers
        async with asyncio.timeout(PATIENCE_S):
            while self.answered < wanted:  # noqa: ASYNC110 - told by nobody
                await asyncio.sleep(0.005)

    async def connect(self):
        return Connection(*await asyncio.open_connection(self.host, int(self.port)))

    async def _client(self, kind):
        connection = None
        while not self._over:
            method = "POST" if kind == "post" else "GET"
            path = self.paths[kind].format(next(self._numbers))
            began = monotonic()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    connection = connection or await self.connect()
                    began = connection.at
                    status, _, stays = await connection.ask(method, path)
                if status != 200:
                    self.failures.append(Failure(began, f"{method} {path}", str(status)))
                self.answered += 1
            except (OSError, EOFError, TimeoutError) as error:
                self.failures.append(Failure(began, f"{method} {path}", repr(error)))
                stays = False
            if connection and (not stays or kind == "new"):
                connection.writer.close()
                with contextlib.suppress(OSError):
                    await connection.writer.wait_closed()
                connection = None
        if connection:
            connection.writer.close()


def posts(paths):
    """The numbered POSTs among the paths that an upstream has seen."""
    return [path for path in paths if "/post-" in path]
