"""What the rollback remembers over a restart: the machine's state, who ordered it, the last transitions."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import orjson

from proxy.control.rollback_shown import MoveStatus


class Memory(NamedTuple):
    """What the file holds."""

    at: float
    """Wall seconds when it was written: the machine's clocks go on over the gap."""
    ordered: bool
    """A person has ordered what lies over the toggles: it holds in `watch` too."""
    machine: dict[str, Any]
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
        at, ordered, machine = raw["at"], raw["ordered"], raw["machine"]
        moves = tuple(_move(it) for it in raw["moves"])
    except (TypeError, KeyError) as error:
        raise ValueError(f"it is no state of a rollback: {error!r}") from error
    if not (isinstance(at, float | int) and isinstance(ordered, bool) and isinstance(machine, dict)):
        raise ValueError("it is no state of a rollback")  # noqa: TRY004 - bad bytes, whatever they hold
    return Memory(float(at), ordered, machine, moves)


def _move(raw: dict[str, Any]) -> MoveStatus:
    return MoveStatus(**raw | {"causes": tuple(raw["causes"])})
