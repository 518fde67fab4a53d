"""The tables and the diagram of `docs/rollback_spec.md`, made from the machine (`make generated`); the text
around them is written by hand.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import orjson

from proxy.core.rollback.machine import ACTIONS, AUTOMATIC, GUARDS, MOVES, STATES
from proxy.core.toggles import STAGES

PAGE = "docs/rollback_spec.md"
_MADE = re.compile(r"(<!-- made: (\w+) -->\n\n).*?(\n<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """The page with everything that is made of the code as the code is."""
    return _MADE.sub(
        lambda found: found[1] + "".join(f"{line}\n" for line in _PARTS[found[2]]()) + found[3], text
    )


def _diagram() -> Iterator[str]:
    """What comes by itself, and every release. A person can start and override from anywhere."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, event), move in MOVES.items():
        if event in AUTOMATIC or event == "released":
            arrows.setdefault((state, move.to), []).append(event)
    yield from ("```mermaid", "stateDiagram-v2", "    [*] --> NORMAL")
    yield from (f"    {state} --> {to}: {', '.join(events)}" for (state, to), events in arrows.items())
    yield "```"


def _moves() -> Iterator[str]:
    yield from ("| in | event | if | to | then |", "|---|---|---|---|---|")
    for state in STATES:
        for (of, event), move in MOVES.items():
            if of == state:
                guards, actions = _names(move.guards), _names(move.actions)
                yield f"| {state} | `{event}` | {guards} | {move.to} | {actions} |"


def _meanings(head: str, meanings: Mapping[Any, str]) -> Iterator[str]:
    yield from (f"| {head} |", "|---|---|")
    yield from (f"| `{name}` | {meaning} |" for name, meaning in meanings.items())


def _stages() -> Iterator[str]:
    yield from ("| stage | sets |", "|---|---|")
    for stage, toggles in STAGES.items():
        sets = _names(f"{name}={orjson.dumps(value).decode()}" for name, value in toggles.items())
        yield f"| `{stage}` | {sets} |"


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


_PARTS: Mapping[str, Callable[[], Iterator[str]]] = {
    "diagram": _diagram,
    "moves": _moves,
    "guards": lambda: _meanings("guard | holds when", GUARDS),
    "actions": lambda: _meanings("action | does", ACTIONS),
    "stages": _stages,
}
