"""Events as the data plane makes them, and a writer whose clock a test holds."""

import json
from types import SimpleNamespace

import orjson

from proxy.core.events import EventsSettings
from proxy.core.rollback.signals import Key
from proxy.eventlog.log import Writer

NOON = 1_764_072_000.0
"""2025-11-25T12:00:00Z."""
KEY = b"k" * 32
SEGMENT = Key("recommendations", "none", "exposed", b"eu", b"heavy", b"web")


def body(k=10, covered=10, returned=None, bucket=1234, **told):
    items = [{"rank": at, "id": f"film{at}", "title": "T"} for at in range(1, (returned or k) + 1)]
    metadata = {
        "k_requested": k,
        "k_returned": len(items),
        "coverage": covered / k,
        "bucket": bucket,
        "policy": "hybrid_default",
        "alpha": 0.5,
        "level": "A" if covered == k else "D",
        "cache": "miss",
        "exposed": True,
        "toggles_version": 7,
    }
    return orjson.dumps({"items": items, "metadata": metadata | told})


def ranking(now=0.0, number=1, *, seconds=0.02, answer=None, user=b"u1", failed=False, **key):
    answer = body() if answer is None else answer
    at = b"r%d" % number
    return ("ranking", now, at, user, SEGMENT._replace(**key), seconds, answer, 200, failed, "", 1.0)


def error(now=0.0, number=1, *, component="cf", severity="error", code="upstream_timeout", **key):
    at = b"r%d" % number
    return ("error", now, at, SEGMENT._replace(**key), component, severity, code, "cf: timeout after 150 ms")


class Rig:
    """A writer into `directory`. `now` is monotonic; wall time is NOON at zero."""

    def __init__(self, directory, **settings):
        self.directory = directory
        self.now = 0.0
        self.losses = SimpleNamespace(events_dropped=0, events_stuck=0)
        self.writer = Writer(
            directory,
            EventsSettings(directory="events", **settings),
            KEY,
            self.losses,
            monotonic=lambda: self.now,
            wall=lambda: NOON + self.now,
        )

    def take(self, *events):
        self.writer.take(events)

    def files(self, stream="ranking"):
        return sorted((self.directory / "ndjson" / stream).glob("*.ndjson"))

    def rows(self, stream="ranking"):
        return [json.loads(line) for path in self.files(stream) for line in path.read_text().splitlines()]
