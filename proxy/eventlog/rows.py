"""Events as lines of NDJSON, made in the writer's thread."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from proxy.core.events import (
    JUDGED,
    EffectEvent,
    ErrorEvent,
    Event,
    RankingEvent,
    RequestEvent,
    TransitionEvent,
)
from proxy.core.rollback.signals import Key

_DAY_MS = 86_400_000
_NO_ANSWER: Mapping[str, Any] = {"items": (), "metadata": {}}


def pseudonym(key: bytes, user: bytes) -> str | None:
    """What stands for a user in the log: a keyed hash (BLAKE2b, 128 bits), the same as long as the key is.

    None where there is no user, or no key that would keep names from being guessed.
    """
    if not user or not key:
        return None
    return hashlib.blake2b(user, key=key, digest_size=16).hexdigest()


class Rows:
    """Makes lines. `wall_offset`: what turns monotonic seconds into wall time; set anew now and then."""

    def __init__(self, key: bytes) -> None:
        self.wall_offset = 0.0
        self._key = key
        self._makers: Mapping[str, Callable[[Any], dict[str, Any]]] = {
            "ranking": self._ranking,
            "error": self._error,
            "request": self._request,
            "effect": self._effect,
            "transition": self._transition,
        }

    def line(self, event: Event) -> bytes:
        """One line with its end; its columns are those of `core.events.COLUMNS`."""
        return orjson.dumps(self._makers[event[0]](event), option=orjson.OPT_APPEND_NEWLINE)

    def _time(self, now: float) -> dict[str, Any]:
        at = int((now + self.wall_offset) * 1000)
        return {"event_date": _date(at // _DAY_MS), "timestamp_ms": at}

    def _ranking(self, event: RankingEvent) -> dict[str, Any]:
        _, now, request_id, user, key, seconds, body, status, failed, stage, weight = event
        answer = orjson.loads(body) if body else _NO_ANSWER
        told = answer["metadata"]
        return {
            "request_id": request_id.decode("latin-1"),
            **self._time(now),
            "user_id": pseudonym(self._key, user),
            **_segment(key),
            "bucket": told.get("bucket"),
            "k": told.get("k_requested", 0),
            "k_returned": told.get("k_returned", 0),
            "coverage": told.get("coverage"),
            "latency_ms": round(seconds * 1000, 3),
            "algorithm": told.get("policy"),
            "alpha": told.get("alpha"),
            "items": [item["id"] for item in answer["items"]],
            "level": told.get("level"),
            "cache": told.get("cache"),
            "exposed": told.get("exposed"),
            "stage": stage,
            "toggles_version": told.get("toggles_version"),
            "status": status,
            "failed": failed,
            "weight": weight,
        }

    def _error(self, event: ErrorEvent) -> dict[str, Any]:
        _, now, request_id, key, component, severity, code, message = event
        return {
            "request_id": request_id.decode("latin-1"),
            **self._time(now),
            **_segment(key),
            "component": component,
            "severity": severity,
            "error_code": code,
            "message": message,
        }

    def _request(self, event: RequestEvent) -> dict[str, Any]:
        _, now, request_id, user, route, method, status, outcome, seconds, weight = event
        return {
            "request_id": request_id.decode("latin-1"),
            **self._time(now),
            "user_id": pseudonym(self._key, user),
            "route": route,
            "method": method.decode("latin-1"),
            "status": status,
            "outcome": outcome,
            "latency_ms": round(seconds * 1000, 3),
            "weight": weight,
        }

    def _effect(self, event: EffectEvent) -> dict[str, Any]:
        _, now, request_id, user, route, action, outcome, status, reason = event
        return {
            "request_id": request_id.decode("latin-1"),
            **self._time(now),
            "user_id": pseudonym(self._key, user),
            "route": route,
            "action": action,
            "outcome": outcome,
            "status": status,
            "reason": reason,
        }

    def _transition(self, event: TransitionEvent) -> dict[str, Any]:
        _, now, columns = event
        return {**self._time(now), **columns}


def _segment(key: Key) -> dict[str, Any]:
    return {
        "shadow": key.side not in JUDGED,
        "side": key.side,
        "route": key.route,
        "arm": key.arm,
        "region": key.region.decode("utf-8", "replace"),
        "cohort": key.cohort.decode("utf-8", "replace"),
        "client": key.client.decode("utf-8", "replace"),
    }


@lru_cache(maxsize=4)
def _date(day: int) -> str:
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%d")
