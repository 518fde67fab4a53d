"""The demo's hands: the sidecar's admin API, and the example upstreams' faults, counts and ledgers."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from proxy.demo.faults import Mode
from proxy.demo.processes import Stack
from proxy.errors import FuseboxError

TIMEOUT = aiohttp.ClientTimeout(total=5.0)


class ControlError(FuseboxError):
    """Sidecar or upstream would not do what the demo asked."""


class Controls:
    def __init__(self, session: aiohttp.ClientSession, stack: Stack) -> None:
        self._session = session
        self._stack = stack

    async def fault(self, upstream: str, mode: Mode) -> None:
        await self._ask("POST", f"{self._stack.upstreams[upstream]}/_fault", {"mode": mode})

    async def requests(self, upstream: str) -> int:
        """How many requests have reached it so far."""
        state = await self._ask("GET", f"{self._stack.upstreams[upstream]}/_fault")
        count: int = state["requests"]
        return count

    async def effects(self, upstream: str, path: str) -> list[Mapping[str, Any]]:
        """What payment or email has really done, straight from it."""
        state = await self._ask("GET", f"{self._stack.upstreams[upstream]}/{upstream}/{path}")
        entries: list[Mapping[str, Any]] = state["entries"]
        return entries

    async def kill(self, reason: str) -> None:
        await self._ask("PUT", f"{self._stack.admin}/v1/kill", {"reason": reason})

    async def release(self, reason: str) -> None:
        await self._ask("DELETE", f"{self._stack.admin}/v1/kill", {"reason": reason})

    async def breakers(self) -> Mapping[str, Mapping[str, Any]]:
        """Status by upstream."""
        found: Mapping[str, Mapping[str, Any]] = await self._ask("GET", f"{self._stack.admin}/v1/breakers")
        return found

    async def transitions(self) -> Counter[tuple[str, str]]:
        """How often each breaker has gone into each state, as (upstream, to), not counting moves by hand."""
        async with self._session.get(f"{self._stack.admin}/metrics", timeout=TIMEOUT) as response:
            text = await response.text()
        counts: Counter[tuple[str, str]] = Counter()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "fusebox_breaker_transitions_total" and sample.labels["rule"] != "manual":
                    counts[sample.labels["upstream"], sample.labels["to"]] += int(sample.value)
        return counts

    async def _ask(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> Any:
        headers = (
            {"Authorization": f"Bearer {self._stack.token}"} if url.startswith(self._stack.admin) else {}
        )
        try:
            async with self._session.request(
                method, url, json=body, headers=headers, timeout=TIMEOUT
            ) as response:
                if response.status >= 300:
                    raise ControlError(f"{method} {url}: {response.status} {await response.text()}")
                return await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ControlError(f"{method} {url}: {error or type(error).__name__}") from error
