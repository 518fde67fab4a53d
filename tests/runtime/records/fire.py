"""People who act and operators who change things, without a pause, and what each of them was told."""

import asyncio
import contextlib
import itertools
import os
from collections import Counter
from pathlib import Path

import aiohttp
import orjson

from proxy.clock import monotonic
from proxy.core.roles import Role
from proxy.storage.tokens import TokenFile
from proxy.tasks import spawn

PATIENCE_S = 20
_serial = itertools.count()
ACTIONS = """
[[audit.actions]]
action = "pay"
path = "/payment/{card}"
actor = ["header:x-user-id"]
target = ["path:card"]
"""


class Users:
    """`async with Users(url): …`: each acts again `pause_s` after an answer, with a new id."""

    def __init__(self, url, *, clients=4, path="/payment/{}", pause_s=0.0):
        self.host, self.port = url.removeprefix("http://").split(":")
        self.clients = clients
        self.path = path
        self.pause_s = pause_s
        self.answered = {}  # request id: status
        self.slowest_s = 0.0  # that anybody waited for an answer
        self.stalled_s = 0.0  # that this process itself was late by at most
        self.failures = []

    async def __aenter__(self):
        self._over = False
        self._tasks = [spawn(self._user(number), "user") for number in range(self.clients)]
        self._tasks.append(spawn(self._own_delay(), "own delay"))
        await self.more(2 * self.clients)
        return self

    async def __aexit__(self, *_):
        self._over = True
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*self._tasks)

    @property
    def statuses(self):
        return Counter(self.answered.values())

    async def more(self, answers):
        """Wait for so many more answers; what was slow before is forgotten."""
        wanted = len(self.answered) + answers
        self.slowest_s = self.stalled_s = 0.0
        async with asyncio.timeout(PATIENCE_S):
            while len(self.answered) < wanted and not self.failures:  # noqa: ASYNC110 - told by nobody
                await asyncio.sleep(0.002)

    async def _own_delay(self):
        """How late this process is: it shares its processor with those that it watches."""
        while not self._over:
            due = monotonic() + 0.005
            await asyncio.sleep(0.005)
            self.stalled_s = max(self.stalled_s, monotonic() - due)

    async def _user(self, number):
        try:
            reader, writer = await asyncio.open_connection(self.host, int(self.port))
        except OSError as error:
            self.failures.append(repr(error))
            return
        try:
            while not self._over:
                request_id = f"user-{next(_serial)}"
                began = monotonic()
                stays = await self._act(reader, writer, request_id, f"user-{number}")
                self.slowest_s = max(self.slowest_s, monotonic() - began)
                await asyncio.sleep(self.pause_s)
                if not stays:
                    writer.close()
                    reader, writer = await asyncio.open_connection(self.host, int(self.port))
        except (OSError, EOFError) as error:
            self.failures.append(repr(error))
        finally:
            writer.close()

    async def _act(self, reader, writer, request_id, user):
        writer.write(
            f"POST {self.path.format(request_id)} HTTP/1.1\r\nHost: a\r\nX-Request-Id: {request_id}\r\n"
            f"X-User-Id: {user}\r\nContent-Length: 0\r\n\r\n".encode()
        )
        async with asyncio.timeout(PATIENCE_S):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            self.answered[request_id] = int(head.split(" ")[1])  # whoever sees this has been answered
            await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        return "connection: close" not in head


class Operators:
    """`async with Operators(box): …`: each moves a breaker, and one throws and releases the kill.

    The reason of each change is an id of its own, since an answer that is lost takes the server's with it.
    """

    def __init__(self, box, tokens, *, kills=True):
        self.url = box.admin
        self.tokens = tokens
        self.kills = kills
        self.acknowledged = {}  # reason: (request id, action)
        self.refused = {}  # reason: (status, document)
        self.asked = []  # reasons
        self.kill = None  # what the last answer said
        self.pending_kill = None  # what was asked for after it

    async def __aenter__(self):
        self._over = False
        self._session = aiohttp.ClientSession()
        self._tasks = [spawn(self._operator(token), "operator") for token in self.tokens[1:]]
        if self.kills:
            self._tasks.append(spawn(self._commander(self.tokens[0]), "commander"))
        return self

    async def __aexit__(self, *_):
        self._over = True
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*self._tasks)
        await self._session.close()

    async def _operator(self, token):
        with contextlib.suppress(aiohttp.ClientError, OSError):
            for action in itertools.cycle(("open", "auto")):
                if self._over or not await self.change("POST", f"/v1/breakers/cf/{action}", token):
                    break

    async def _commander(self, token):
        with contextlib.suppress(aiohttp.ClientError, OSError):
            for on in itertools.cycle((True, False)):
                if self._over:
                    break
                self.pending_kill = on
                if not await self.change("PUT" if on else "DELETE", "/v1/kill", token):
                    break
                self.kill, self.pending_kill = on, None

    async def change(self, method, path, token):
        """Whether it was acknowledged; 429 is waited for."""
        reason = f"change-{next(_serial)}"
        self.asked.append(reason)
        headers = {"Authorization": f"Bearer {token}"}
        while True:
            async with self._session.request(
                method, self.url + path, headers=headers, json={"reason": reason}
            ) as answer:
                told = await answer.json(content_type=None)
                if answer.status == 429:
                    if self._over:
                        return False  # nothing was done, and nobody waits for it any more
                    await asyncio.sleep(0.05)
                    continue
                if answer.status == 200:
                    self.acknowledged[reason] = answer.headers["X-Request-Id"], path
                else:
                    self.refused[reason] = answer.status, told
                return answer.status == 200


def report(text):
    """Figures, into the file that the environment names."""
    if name := os.environ.get("FUSEBOX_REPORT"):
        with Path(name).open("a") as file:
            file.write(f"{text}\n")


def make_tokens(box, number):
    """The first is a commander's."""
    file = TokenFile(box.directory / "var" / "tokens.json")
    return [file.create(f"who-{it}", Role.COMMANDER) for it in range(number)]


def entries_of(store):
    """The whole log."""
    return store.read(lambda it: [orjson.loads(row.entry) for row in it.audit.walk(0, 2**62)])
