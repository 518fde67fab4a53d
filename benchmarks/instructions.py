"""Instructions per request in user space, without kernel and loop: what a change of the code is judged by.

The data plane serves a client and upstreams that are dummies (`dummies.py`), each request with its own user
and trace, while valgrind's callgrind counts. Other programs do not disturb a count: it comes out the same but
for a tenth of a percent. It is not time: µs of the same walk, without valgrind, stand beside it. `orders` is
a forward whose clients send their fields in ever other orders, `own-answers` one whose upstream gives each
answer an id and a length of its own, `recorded` one that is an action of a user, `rules` a blended
request under 10,000 scoped rules of which none fits.
"""

import inspect
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from types import CodeType, FrameType

from dummies import COUNTED, MODES, warm
from harness import ROOT, Unusable, need, progress
from report import finish, options, script, spread, table

DUMMIES = Path(__file__).with_name("dummies.py")


def instructions(mode: str, chosen: Namespace) -> float:
    """Per request, counted in a process of its own, whose dicts and sets are ordered alike each time."""
    with tempfile.TemporaryDirectory(prefix="fusebox-bench-") as made:
        counts = Path(made) / "callgrind"
        run = subprocess.run(
            [
                *(need("valgrind", "apt install valgrind"), "--tool=callgrind"),
                *(f"--toggle-collect={COUNTED}", f"--callgrind-out-file={counts}"),
                *(sys.executable, DUMMIES, mode, str(chosen.requests), str(chosen.orders)),
            ],
            env=os.environ | {"PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if run.returncode:
            raise Unusable(f"valgrind ended with {run.returncode}; it said:\n{run.stderr[-1500:]}")
        return total(counts.read_text()) / chosen.requests


def total(counts: str) -> int:
    """What callgrind counted, by the last lines of its file."""
    for line in reversed(counts.splitlines()):
        if line.startswith("totals: "):
            return int(line.split()[1])
    raise Unusable("callgrind counted nothing")


def microseconds(chosen: Namespace) -> dict[str, list[float]]:
    """CPU per request of each mode, round after round."""
    serving = {mode: warm(MODES[mode], chosen.requests, chosen.orders) for mode in chosen.only}
    taken: dict[str, list[float]] = {mode: [] for mode in chosen.only}
    for _ in range(chosen.rounds):
        for mode, it in serving.items():
            steps = list(chain.from_iterable(it.steps(chosen.requests)))
            started = time.process_time()
            it.walk(steps)
            taken[mode].append((time.process_time() - started) / chosen.requests * 1e6)
    return taken


def functions(mode: str, chosen: Namespace) -> Iterator[tuple[str, float, float]]:
    """Where a request goes: each Python function with its bytecodes and calls per request, most first."""
    serving = warm(MODES[mode], chosen.requests, chosen.orders)
    steps = list(chain.from_iterable(serving.steps(chosen.requests)))
    bytecodes: Counter[CodeType] = Counter()
    calls: Counter[CodeType] = Counter()

    def enter(frame: FrameType, _event: str, _: object):
        code = frame.f_code
        calls[code] += 1
        frame.f_trace_opcodes, frame.f_trace_lines = True, False

        def inside(_frame: FrameType, event: str, _: object):
            bytecodes[code] += event == "opcode"
            return inside

        return inside

    inspect.currentframe().f_trace_opcodes = True  # Python 3.12 looks for one when tracing begins
    sys.settrace(enter)
    try:
        serving.walk(steps)
    finally:
        sys.settrace(None)
    for code, number in bytecodes.most_common():
        if code.co_filename != str(DUMMIES):
            yield named(code), number / chosen.requests, calls[code] / chosen.requests


def named(code: CodeType) -> str:
    path = Path(code.co_filename)
    return f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name}: {code.co_qualname}"


def tell_functions(chosen: Namespace) -> list[dict[str, object]]:
    """Print a table per mode, without functions that are hardly ever called; gives all of them."""
    rows: list[dict[str, object]] = []
    for mode in chosen.only:
        found = list(functions(mode, chosen))
        rows += [
            {"mode": mode, "function": name, "bytecodes": number, "calls": calls}
            for name, number, calls in found
        ]
        shown = [[name, f"{number:,.1f}", f"{calls:,.2f}"] for name, number, calls in found if number >= 1]
        shown.append(["all", f"{sum(it[1] for it in found):,.1f}", f"{sum(it[2] for it in found):,.2f}"])
        print(f"\n{table([mode, 'bytecodes', 'calls'], shown)}")
    return rows


def main() -> int:
    parser = options(__doc__, rounds=10)
    parser.add_argument("--only", nargs="+", choices=MODES, default=list(MODES), help="these modes only")
    parser.add_argument("--requests", type=int, default=500, help="that are counted, after as many others")
    parser.add_argument("--orders", type=int, default=1000, help="orders of fields in the mode `orders`")
    parser.add_argument("--functions", action="store_true", help="bytecodes by Python function as well")
    chosen = parser.parse_args()
    need("valgrind", "apt install valgrind")
    progress("counting, a quarter of a minute per mode and core")
    with ThreadPoolExecutor(os.cpu_count()) as side_by_side:
        counted = dict(
            zip(
                chosen.only,
                side_by_side.map(lambda mode: instructions(mode, chosen), chosen.only),
                strict=True,
            )
        )
    taken = microseconds(chosen)
    shown = [[mode, f"{counted[mode]:,.0f}", spread(taken[mode]).show(1)] for mode in chosen.only]
    print(table(["", "instructions per request", "µs in Python"], shown))
    rows = [{"mode": mode, "instructions": counted[mode], "us": taken[mode]} for mode in chosen.only]
    if chosen.functions:
        rows += tell_functions(chosen)
    return finish("instructions", chosen, rows, [])


if __name__ == "__main__":
    script(main)
