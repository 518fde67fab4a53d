"""The drill's clients: a few at a time, each user several times, within the time that there is."""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from proxy.clock import Clock
from proxy.core.drill import Answered, Mode, Tally

AT_ONCE = 4
"""Requests under way at most: a drill is no load test."""
MOST = 16
"""… where they come at an even pace."""
PATIENCE_S = 5.0
"""For one answer."""

OVERRIDE = "X-Fusebox-Override"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where recommendations are asked for, and how a request says whose they are."""

    url: str
    """Of the recommend route, without a query."""
    identity: str
    """`header:NAME`, `query:NAME` or `cookie:NAME`, as in `[identity]`."""
    k: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Who asks, how often each, and by when all has to be over (monotonic seconds)."""

    users: Sequence[str]
    times: int
    until: float


async def ask_all(
    target: Target,
    modes: Sequence[Mode],
    headers: Mapping[str, str],
    asking: Round,
    *,
    clock: Clock,
) -> list[Tally]:
    """Mode by mode, each with its override, by its key. What there is no time for is not answered."""
    tallies = []
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
        for mode in modes:
            tally = Tally(mode, target.k)
            waiting = iter(list(asking.users) * asking.times)

            async def client(tally: Tally, waiting: Iterator[str], override: str) -> None:
                for user in waiting:
                    if clock() >= asking.until:
                        tally.add(Answered(user, 0, fault="not asked: the time was over"))
                    else:
                        tally.add(await _ask(session, target, user, override))

            await asyncio.gather(*(client(tally, waiting, headers[mode.key]) for _ in range(AT_ONCE)))
            tallies.append(tally)
    return tallies


async def ask_evenly(
    target: Target,
    override: str,
    users: Sequence[str],
    per_s: float,
    told: Callable[[Answered], None],
    over: Callable[[], bool],
) -> None:
    """Ask at an even pace, user by user, until it is `over`; each answer is `told`.

    There are `MOST` clients; only where all of them wait for answers the pace falls behind.
    """
    loop = asyncio.get_running_loop()
    turns = zip(itertools.count(), itertools.cycle(users), strict=False)
    began = loop.time()
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def client() -> None:
            while not over():
                turn, user = next(turns)
                await asyncio.sleep(max(0.0, began + turn / per_s - loop.time()))
                if not over():
                    told(await _ask(session, target, user, override))

        await asyncio.gather(*(client() for _ in range(MOST)))


async def _ask(session: aiohttp.ClientSession, target: Target, user: str, override: str) -> Answered:
    kind, _, name = target.identity.partition(":")
    headers = {OVERRIDE: override}
    url = f"{target.url}?k={target.k}"
    if kind == "header":
        headers[name] = user
    elif kind == "cookie":
        headers["Cookie"] = f"{name}={user}"
    else:
        url += f"&{quote(name)}={quote(user, safe='')}"
    try:
        async with session.get(URL(url, encoded=True), headers=headers, allow_redirects=False) as response:
            content = await response.read()
            status = response.status
    except TimeoutError:
        return Answered(user, 0, fault=f"no answer within {PATIENCE_S:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return Answered(user, 0, fault=f"no answer: {error}")
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        return Answered(user, status, fault=f"answered {status} without JSON")
    return Answered(user, status, document, "" if status == 200 else _said(status, document))


def _said(status: int, document: object) -> str:
    detail = document.get("detail") if isinstance(document, dict) else None
    return f"answered {status}{f': {detail}' if detail else ''}"
