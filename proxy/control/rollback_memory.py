"""What the rollback remembers over a restart: where its engine was, and the last transitions."""

from dataclasses import asdict
from typing import Any, NamedTuple

import orjson

from proxy.control.rollback_shown import MoveStatus


class Memory(NamedTuple):
    """What the file holds."""

    at: float
    """Wall seconds when it was written: the engine's clocks go on over the gap."""
    engine: dict[str, Any]
    """As `Engine.saved` gives it."""
    moves: tuple[MoveStatus, ...]


def memorised(memory: Memory) -> bytes:
    """JSON, for people too; what `remembered` makes a Memory of."""
    moves = [asdict(it) for it in memory.moves]
    return orjson.dumps(memory._asdict() | {"moves": moves}, option=orjson.OPT_INDENT_2) + b"\n"


def remembered(content: bytes) -> Memory:
    """ValueError when it cannot be understood."""
    try:
        raw = orjson.loads(content)
        memory = Memory(float(raw["at"]), dict(raw["engine"]), tuple(map(_move, raw["moves"])))
    except (TypeError, KeyError) as error:
        raise ValueError(f"it is no state of a rollback: {error!r}") from error
    return memory


def _move(raw: dict[str, Any]) -> MoveStatus:
    return MoveStatus(**raw | {"causes": tuple(raw["causes"])})
