"""A data plane with one recommend route before two scripted sources, and readers that check each answer."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import orjson
import strict
from harness import Script, Scripted, Wire, answering, reply, turn
from rig import DEADLINES, UPSTREAM, Rig

from proxy.core.policy import Film, Policy, Route, Sources, Upstream
from proxy.core.rollback.signals import Delta
from proxy.dataplane.emitting import Emitting
from proxy.dataplane.plane import DataPlane
from proxy.dataplane.remembering import Files
from proxy.dataplane.sampling import Sampling
from proxy.telemetry.counters import Counters

FILMS = tuple(
    Film(
        id=f"p{n}", title=f"Popular {n}", year=1980 + n, genres=("drama",) if n % 2 else ("comedy",),
        providers=("netflix",), score=1 - n / 100,
    )
    for n in range(30)
)  # fmt: skip
ROUTE = Route(
    name="films", path="/recommendations", kind="recommend", sources=Sources(cf="cf", content="content"),
    k_default=5, k_max=20, alpha=0.6, total_ms=5_000,
)  # fmt: skip
GET = b"GET /recommendations?user_id=7&k=%d%b HTTP/1.1\r\nHost: x\r\n%b\r\n"


def film(key: str, score: float, **more: Any) -> dict[str, Any]:
    return {"id": key, "score": score, "title": key.upper(), "year": 1999, "genres": ["drama"], **more}


def offers(*films: dict[str, Any]) -> bytes:
    """A source's whole answer."""
    return reply(orjson.dumps({"items": films}), b"Content-Type: application/json")


def offering(*films: dict[str, Any]) -> Script:
    return answering(offers(*films))


def many(prefix: str, n: int) -> list[dict[str, Any]]:
    return [film(f"{prefix}{i}", 1 - i / n) for i in range(n)]


def at_path(path: bytes, there: bytes, elsewhere: bytes = offers()) -> Script:
    """Answers what is asked below `path` in its own way."""

    async def script(wire: Wire) -> None:
        while True:
            request = await wire.request()
            wire.send(there if request.target.startswith(path) else elsewhere)

    return script


async def hanging(wire: Wire) -> None:
    """Takes requests and never says a word."""
    await wire.request()
    await asyncio.Event().wait()


class Recommended:
    """An answer of the route, after it was checked against the contract."""

    def __init__(self, answer: strict.Response, k: int, *, aside: bool = False) -> None:
        """`aside`: it was set aside, which no cache in front may keep."""
        assert answer.status == 200, answer.body
        assert answer.get("content-type") == b"application/json"
        document = orjson.loads(answer.body)
        self.answer = answer
        self.items = document["items"]
        self.metadata = document["metadata"]
        self.ids = [item["id"] for item in self.items]
        self.sources = [item["source"] for item in self.items]
        assert set(document) == {"request_id", "user_id", "k", "items", "metadata"}
        assert set(self.metadata) == {
            "k_requested", "k_returned", "coverage", "arm", "bucket", "exposed", "policy", "alpha", "level",
            "toggles_version", "degraded", "cache",
        }  # fmt: skip
        for item in self.items:
            assert set(item) >= {"rank", "id", "score", "source", "title", "year", "genres"}
        assert [item["rank"] for item in self.items] == list(range(1, k + 1))
        assert len(set(self.ids)) == k == document["k"] == self.metadata["k_requested"]
        assert self.metadata["k_returned"] == k
        scored = [item["score"] for item in self.items if item["source"] != "popularity"]
        assert all(one >= other for one, other in pairwise(scored))
        covered = sum(source != "popularity" for source in self.sources)
        assert self.metadata["coverage"] == covered / k
        assert answer.get("x-request-id") == document["request_id"].encode()
        decision = dict(
            part.split("=") for part in (answer.get("x-fusebox-decision") or b"").decode().split(";")
        )
        self.stage = decision.pop("stage", "")
        assert decision == {
            "route": "films", "arm": self.metadata["arm"], "bucket": str(self.metadata["bucket"]),
            "level": self.metadata["level"], "source": self.sources[0],
            "v": str(self.metadata["toggles_version"]),
        }  # fmt: skip
        assert (answer.get("cache-control") == b"no-store") == (self.degraded or aside)
        timings = [
            part.strip().split(";dur=") for part in (answer.get("server-timing") or b"").decode().split(",")
        ]
        self.timings = {name: float(duration) for name, duration in timings}

    @property
    def level(self) -> str:
        return self.metadata["level"]

    @property
    def degraded(self) -> bool:
        return self.metadata["degraded"]


class Stage(Rig):
    """The running plane with its two sources."""

    cf: Scripted
    content: Scripted
    control: Scripted  # where there is none, `cf`

    async def recommend(
        self, k: int = 4, query: bytes = b"", fields: bytes = b"", *, aside: bool = False
    ) -> Recommended:
        return Recommended(await self.ask(GET % (k, query, fields)), k, aside=aside)

    def outcomes(self, name: str) -> dict[str, int]:
        """What is not zero."""
        return {key: n for key, n in self.counters.upstreams[name].outcomes.items() if n}

    def failures(self, name: str) -> tuple[int, int]:
        """Calls and failures as the breaker of the source counts them."""
        status = self.plane.breakers[name].snapshot(asyncio.get_running_loop().time())
        return status.n, status.failures

    @property
    def slots(self) -> tuple[int, int]:
        return self.counters.slots_asked, self.counters.slots_covered

    @property
    def quiet(self) -> bool:
        """Nothing is in flight or waiting."""
        return not any(cell.inflight or cell.queued for cell in self.counters.upstreams.values())


def upstreams(urls: dict[str, str], changed: dict[str, dict[str, Any]]) -> dict[str, Upstream]:
    return {name: replace(UPSTREAM, **{"url": url, **changed.get(name, {})}) for name, url in urls.items()}


@asynccontextmanager
async def stage(
    cf: Script,
    content: Script,
    *,
    route: dict[str, Any] | None = None,
    sources: dict[str, dict[str, Any]] | None = None,
    control: Script | None = None,
    sampling: Sampling | None = None,
    seen: Files | None = None,
    on_signals: Callable[[Delta], None] | None = None,
    events: Emitting | None = None,
    **policy_more: Any,
) -> AsyncIterator[Stage]:
    """`sources`: settings of the upstreams `cf` and `content`. Nothing may be logged as an error.

    With a `control` the route has that upstream too; `policy_more` are further fields of the policy.
    """
    scripts = {"cf": cf, "content": content} | ({} if control is None else {"control": control})
    scripted = tuple(map(Scripted, scripts.values()))
    for one in scripted:
        await one.start()
    policy = Policy(
        routes=(
            replace(ROUTE, **({"sources": Sources(**{name: name for name in scripts})} | (route or {}))),
        ),
        upstreams=upstreams(dict(zip(scripts, (one.url for one in scripted), strict=True)), sources or {}),
        deadlines=DEADLINES,
        popularity=FILMS,
        **({"access_log_sample": 0.0} | policy_more),
    )
    counters = Counters()
    transitions: list[Any] = []
    plane = DataPlane(
        policy, counters, on_transition=transitions.append, sampling=sampling, seen=seen,
        on_signals=on_signals, events=events,
    )  # fmt: skip
    rig = Stage(plane, scripted[0], policy, counters)
    rig.cf, rig.content, rig.control = (*scripted, *scripted)[:3]
    rig.transitions = transitions
    watch = Complaints(rig.complaints)
    logging.getLogger("fusebox").addHandler(watch)
    await plane.start("127.0.0.1:0")
    try:
        yield rig
        assert not rig.complaints, rig.complaints
        assert not [fault for one in scripted for fault in one.faults]
    finally:
        rig.close_clients()
        plane.close()
        for one in scripted:
            await one.stop()
        await turn()
        logging.getLogger("fusebox").removeHandler(watch)


class Complaints(logging.Handler):
    """Keeps what was logged as an error."""

    def __init__(self, into: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._into = into

    def emit(self, record: logging.LogRecord) -> None:
        self._into.append(self.format(record))
