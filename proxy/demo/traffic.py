"""The demo's clients: people who want recommendations, pay, and get emails.

Arrivals follow a schedule and not the answers, as real users do: a slow sidecar meets more
requests at once, up to `IN_FLIGHT_MAX`; what would go beyond is counted as held back.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson

from proxy.clock import monotonic
from proxy.demo.catalogue import PROVIDERS
from proxy.demo.seen import Effect, Refusal, Seen, flaw
from proxy.tasks import spawn

RECOMMEND_PER_S = 150.0
PAYMENT_PER_S = 12.0
EMAIL_PER_S = 6.0
USERS = 200
STRANGERS = 0.03  # share of requests by people no recommender has heard of
KS = (5, 10, 20, 50)  # facts 1
GENRES = ("Drama", "Comedy", "Action", "Adventure", "Thriller/Suspense", "Horror")
IN_FLIGHT_MAX = 256
TICK_S = 0.01
TIMEOUT = aiohttp.ClientTimeout(total=5.0)
RETRY_S = 0.25  # between attempts of a write, when the answer does not say

Work = Callable[[], Coroutine[Any, Any, None]]


class Traffic:
    """Sends until stopped and writes down in `seen` what came back."""

    def __init__(self, session: aiohttp.ClientSession, front: str, seen: Seen, seed: int = 7) -> None:
        self._session = session
        self._front = front
        self._seen = seen
        self._random = random.Random(seed)
        self._recommending: set[asyncio.Task[None]] = set()
        self._writing: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Keeps to the schedule until `stop`."""
        lines = (
            (RECOMMEND_PER_S, self._recommend, self._recommending),
            (PAYMENT_PER_S, self._pay, self._writing),
            (EMAIL_PER_S, self._mail, self._writing),
        )
        due = [monotonic()] * len(lines)
        while not self._stopping.is_set():
            now = monotonic()
            for index, (rate, work, tasks) in enumerate(lines):
                while due[index] <= now:
                    due[index] += 1 / rate
                    self._send(work, tasks)
            await asyncio.sleep(TICK_S)

    def _send(self, work: Work, tasks: set[asyncio.Task[None]]) -> None:
        if len(self._recommending) + len(self._writing) >= IN_FLIGHT_MAX:
            self._seen.held_back += 1
            return
        task = spawn(work(), "demo client")
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def recommendations_answered(self) -> None:
        """Returns when every recommend request that is under way now has its answer."""
        if under_way := set(self._recommending):
            await asyncio.wait(under_way)

    async def stop(self, grace_s: float) -> None:
        """No new arrivals; what is under way may finish, writes with their retries within `grace_s`."""
        self._stopping.set()
        if left := self._recommending | self._writing:
            _, late = await asyncio.wait(left, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _recommend(self) -> None:
        seen = self._seen.phases[self._seen.phase]
        k = self._random.choice(KS)
        query = self._query(k)
        started = monotonic()
        body: Any = None
        try:
            async with self._session.get(
                f"{self._front}/recommendations?{query}", timeout=TIMEOUT
            ) as response:
                text = await response.read()
            wrong = flaw(response.status, body := orjson.loads(text), k)
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
            wrong = f"no answer: {type(error).__name__}"
        ended = monotonic()
        seen.seconds.append(ended - started)
        seen.slots_asked += k
        self._seen.answered("recommend", ended, ended - started)
        if wrong:
            seen.flaws[wrong] += 1
            return
        seen.slots_filled += len(body["items"])
        seen.levels[body["metadata"]["level"]] += 1
        seen.sources.update(item["source"] for item in body["items"])

    def _query(self, k: int) -> str:
        pick = self._random
        stranger = pick.random() < STRANGERS
        query: dict[str, str | int] = {
            "user_id": f"guest-{pick.randrange(1000)}" if stranger else f"u{pick.randint(1, USERS):03d}",
            "k": k,
        }
        match pick.randrange(10):
            case 0 | 1:
                query["genres"] = ",".join(pick.sample(GENRES, 2))
            case 2:
                query["providers"] = ",".join(pick.sample(PROVIDERS, 2))
            case 3:
                query["year_min"], query["year_max"] = pick.choice(((1980, 1999), (2000, 2012)))
        return urlencode(query, safe=",")

    async def _pay(self) -> None:
        user = f"u{self._random.randint(1, USERS):03d}"
        effect = Effect(f"pay-{len(self._seen.payments):06d}")
        self._seen.payments.append(effect)
        order = {"user_id": user, "amount_cents": self._random.randint(199, 4999)}
        await self._write("payment", "charges", effect, order)

    async def _mail(self) -> None:
        effect = Effect(f"mail-{len(self._seen.emails):06d}")
        self._seen.emails.append(effect)
        order = {"to": f"u{self._random.randint(1, USERS):03d}@example.org", "subject": "Your films tonight"}
        await self._write("email", "messages", effect, order)

    async def _write(self, kind: str, path: str, effect: Effect, order: dict[str, Any]) -> None:
        """Until it is done: the same order under the same key, no sooner than `Retry-After` says."""
        body = orjson.dumps(order)
        headers = {"Idempotency-Key": effect.key, "Content-Type": "application/json"}
        while True:
            effect.attempts += 1
            sent_in, started = self._seen.phase, monotonic()
            wait = RETRY_S
            try:
                async with self._session.post(
                    f"{self._front}/{kind}/{path}", data=body, headers=headers, timeout=TIMEOUT
                ) as response:
                    answer = orjson.loads(await response.read())
                if response.status == 201:
                    effect.receipt = answer["id"]
                    self._seen.answered("write", monotonic(), monotonic() - started)
                    return
                code = answer.get("code", str(response.status))
                wait = max(wait, float(response.headers.get("Retry-After", 0)))
            except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
                code = f"no answer: {type(error).__name__}"
            ended = monotonic()
            self._seen.refusals.append(
                Refusal(
                    kind=kind,
                    sent_in=sent_in,
                    answered_in=self._seen.phase,
                    code=code,
                    seconds=ended - started,
                )
            )
            self._seen.answered("refused", ended, ended - started)
            await asyncio.sleep(wait * self._random.uniform(1.0, 1.3))
