"""Everything at once: every answer is whole and its user's own, every request counts, and nothing stays."""

import asyncio
import gc
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from harness import GoneError, Wire, reply, until
from recommending import FILMS, film, offers, stage
from test_overrides import KEY, header

from proxy.core.breaker import BreakerSettings
from proxy.core.cache import CacheSettings, WarmList
from proxy.core.candidates import Fields
from proxy.core.policy import Shadow, Toggles
from proxy.core.routing import parameters
from proxy.dataplane.fetch import Fetch
from proxy.dataplane.recommend import Recommend
from proxy.dataplane.shadow_calls import Plan
from proxy.dataplane.source_call import SourceCall
from proxy.tasks import spawn

USERS = [b"7", b"8", "ä b".encode(), b"a&k=3", b"\0x", b"\xff\xfe", b"\xff\xfd", b"x;user_id=8", b""]
QUOTED = {user: b"".join(b"%%%02X" % byte for byte in user) for user in USERS}
REQUESTS = 600
LIVING = (Fetch, Recommend, SourceCall, Plan)


class Source:
    """Names whom each of its items is for; and is all that a source can be."""

    def __init__(self, name: str, chance: random.Random) -> None:
        self._name = name
        self._chance = chance

    async def __call__(self, wire: Wire) -> None:
        while True:
            asked = parameters((await wire.request()).target.partition(b"?")[2])
            (user,) = {value for name, value in asked if name == b"user_id"} or {b""}
            k = int(dict(asked)[b"k"])
            n = self._chance.choice((k, k, k, 50, 2, 1, 0))
            whole = offers(*(film(f"{self._name}:{user.hex()}:{i}", 1 - i / 50) for i in range(n)))
            for _ in range(self._chance.choice((0, 0, 1, 5, 20))):
                await asyncio.sleep(0)
            match self._chance.randrange(28):
                case 0:
                    await wire.until(lambda: wire.eof, "the end of patience")
                    return
                case 1:
                    wire.reset()
                    return
                case 2:
                    wire.send(whole[: len(whole) // 2])
                    wire.close()
                    return
                case 3:
                    wire.send(reply(b"{}", status=b"500 Oops"))
                case 4:
                    wire.send(reply(b"{}", status=self._chance.choice((b"404 No", b"429 Slow"))))
                case 5:
                    wire.send(reply(b'{"items": [{"id": 1}]}', b"Content-Type: application/json"))
                case _:
                    wire.send(whole)


class Storm:
    def __init__(self, rig: Any, chance: random.Random) -> None:
        self.rig = rig
        self.chance = chance
        self.sent = 0
        self.answered = 0
        self.over = False

    async def client(self, requests: int) -> None:
        while requests > 0:
            wire = await self.rig.client()
            asked = [self.request() for _ in range(self.chance.randint(1, 4))]
            wire.send(b"".join(raw for raw, *_ in asked))
            self.sent += len(asked)
            requests -= len(asked)
            answers = self.chance.choice((0, 1, 9, 9, 9))
            for raw, method, user, k in asked[:answers]:
                try:
                    answer = await wire.response(method)
                except GoneError:
                    break
                self.answered += 1
                self.check(raw, method, user, k, answer)
            if answers < len(asked):
                for _ in range(self.chance.randrange(30)):
                    await asyncio.sleep(0)
                wire.reset()
            else:
                wire.close()

    def request(self) -> tuple[bytes, bytes, bytes, int]:
        chance = self.chance
        user, k = chance.choice(USERS), chance.choice((1, 4, 20))
        other = QUOTED[chance.choice(USERS)]
        method = b"HEAD" if chance.random() < 0.1 else b"GET"
        version = b"HTTP/1.0\r\nConnection: keep-alive" if chance.random() < 0.05 else b"HTTP/1.1"
        fields = b""
        if user.isalnum() and chance.random() < 0.5:
            fields += b"X-User-Id: %b\r\nCookie: user_id=%b\r\n" % (user, other)
            query = b"user_id=%b&k=%d" % (other, k)
        else:
            query = chance.choice((b"user_id=%b&k=%d", b"k=%d&user%%5Fid=%b", b"user_id=%b&k=%d&user_id=zz"))
            query %= (k, QUOTED[user]) if query[:1] == b"k" else (QUOTED[user], k)
            user = b"" if user == b"\0x" else user or (b"zz" if b"zz" in query else b"")
        query += chance.choice((b"", b"", b"", b"&genres=comedy", b"&cursor=", b"&year_min=1995"))
        if chance.random() < 0.2:
            over = chance.choice(
                ({"policy_mode": "content_only"}, {"cache_mode": "warm_only"}, {"exposure_percent": 0.0})
            )
            fields += header(**over) + b"X-Fusebox-Explain: 1\r\n"
        return (
            b"%b /recommendations?%b %b\r\nHost: x\r\n%b\r\n" % (method, query, version, fields),
            method,
            user,
            k,
        )

    def check(self, raw: bytes, method: bytes, user: bytes, k: int, answer: Any) -> None:
        assert answer.status == 200, (raw, answer)
        if method == b"HEAD":
            return
        document = orjson.loads(answer.body)
        ids = [item["id"] for item in document["items"]]
        assert len(set(ids)) == len(ids) == k == document["k"], (raw, ids)
        whose = {key.split(":")[1] for key in ids if ":" in key}
        assert whose <= {user.hex()}, (raw, ids)
        said = dict(part.split("=") for part in answer.get("x-fusebox-decision").decode().split(";"))
        assert said["v"] == str(document["metadata"]["toggles_version"])
        assert said["level"] == document["metadata"]["level"]
        assert (answer.get("x-fusebox-explanation") is not None) <= (b"Override" in raw)

    async def weather(self, warm_file: str) -> None:
        """Policies come and go."""
        rig, chance, version = self.rig, self.chance, 1
        while not self.over:
            version += 1
            toggles = Toggles(
                version=version,
                kill_switch=chance.random() < 0.1,
                cache_mode=chance.choice(("cold", "cold", "prewarm", "prewarm", "prewarm", "warm_only")),
                policy_mode=chance.choice((None, "content_only", "hybrid_default", "bucket_gate")),
                exposure_percent=chance.choice((100.0, 100.0, 50.0)),
                candidate_fallback_level=chance.choice("AABC"),
                disable_cf=chance.random() < 0.1,
            )
            before = rig.plane.policy
            ups = {
                name: replace(
                    up,
                    neighbours_path=chance.choice(("", "/neighbours")) if name == "content" else "",
                    max_inflight=chance.choice((2, 16, 64)),
                    max_queue=chance.choice((0, 4, 64)),
                    timeout_ms=chance.choice((30, 60)),
                    queue_timeout_ms=chance.choice((20, 30, 60)),
                    candidates_path=chance.choice(("/candidates", "/candidates", "/c")),
                    fields=Fields(title=chance.choice(("title", "title", "name"))),
                )
                for name, up in before.upstreams.items()
            }
            (route,) = before.routes
            route = replace(route, deadline_ms=chance.choice((None, 25, 50)))
            cache = CacheSettings(
                max_bytes=chance.choice((0, 200_000, 4_000_000)),
                candidates_ttl_s=chance.choice((1e-6, 60.0)),
                warm_per_s=1_000.0,
            )
            warm = WarmList(file=warm_file, read_at=chance.choice((1.0, 2.0)))
            films = chance.choice((FILMS, FILMS[5:]))
            rig.plane.apply(
                replace(
                    before,
                    toggles=toggles,
                    upstreams=ups,
                    routes=(route,),
                    cache=cache,
                    popularity=films,
                    warm=warm,
                )
            )
            for _ in range(chance.randrange(60)):
                await asyncio.sleep(0)
            await asyncio.sleep(0.002)


def living() -> int:
    gc.collect()
    return sum(isinstance(thing, LIVING) for thing in gc.get_objects())


def counted(counters: Any) -> int:
    """Requests, in the columns of all kinds."""
    own = sum(sum(cell.status) for cell in counters.routes.values())
    return own + sum(
        counted(aside) for why, aside in counters.asides.items() if why not in ("mirror", "warm")
    )


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_storm(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    warm_file = tmp_path / "warm.json"
    warm_file.write_bytes(orjson.dumps([f"user_id={n}&k=4" for n in range(60)]))
    breaker = BreakerSettings(consecutive_failures=6, cooldown_s=0.02)
    settings: dict[str, Any] = {"breaker": breaker, "max_inflight": 8}
    sources = [Source(name, chance) for name in ("cf", "co", "ctl")]
    async with stage(
        *sources[:2],
        control=sources[2],
        sources={"cf": settings, "content": settings},
        route={"shadow": Shadow(percent=30, toggles={"policy_mode": "content_only"})},
        signing_key=KEY,
    ) as rig:
        storm = Storm(rig, chance)
        weather = spawn(storm.weather(str(warm_file)), "weather")
        await asyncio.gather(*(storm.client(REQUESTS // 30) for _ in range(30)))
        storm.over = True
        await weather
        rig.plane.apply(replace(rig.plane.policy, warm=None))
        rig.close_clients()
        memories = [rig.plane._memory, *(it._memory for it in rig.plane._shadowing._routes.values())]
        await until(lambda: rig.quiet and not any(it.calls for it in memories), "the last call")
        await until(lambda: not rig.counters.connections, "the last client")
        assert storm.answered <= counted(rig.counters) <= storm.sent
        await until(lambda: not living(), f"{living()} things that should be gone")
        busy = {at: list(lane.entries) for at, lane in rig.plane.ticker._lanes.items() if lane}
        assert not busy
        for one in rig.plane.breakers.values():
            assert not one._waiting
        for aside in rig.counters.asides.values():
            assert not any(cell.inflight or cell.queued for cell in aside.upstreams.values())
