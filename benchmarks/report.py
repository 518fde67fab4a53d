"""From samples to a verdict: options, medians with spread, ratios taken round by round, targets, JSON."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import ROOT, Pace, Sample, Unusable


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several rounds, with the lowest and the highest."""

    median: float
    low: float
    high: float

    def show(self, digits: int) -> str:
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def ratio(samples: Sequence[Sample], metric: str, subject: str, peer: str) -> Spread:
    """`subject` ÷ `peer`, taken within each round, where the machine was in the same mood for both."""
    of: dict[tuple[str, int], float] = {(s.subject, s.round): getattr(s, metric) for s in samples}
    rounds = sorted(r for name, r in of if name == subject and (peer, r) in of)
    return spread([of[subject, r] / of[peer, r] for r in rounds])


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One figure that was promised: what it is, what came out, and its bound if it has one."""

    text: str
    value: Spread
    at_most: float | None = None
    at_least: float | None = None
    digits: int = 2

    @property
    def met(self) -> bool:
        return (self.at_most is None or self.value.median <= self.at_most) and (
            self.at_least is None or self.value.median >= self.at_least
        )

    def row(self) -> list[str]:
        bound = "" if self.at_most is None else f"≤ {self.at_most:g}"
        bound = bound if self.at_least is None else f"≥ {self.at_least:g}"
        verdict = ("met" if self.met else "MISSED") if bound else ""
        return [self.text, self.value.show(self.digits), bound, verdict]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns: names left, figures right."""
    widths = [max(3, *map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first = f"{cells[0]:<{widths[0]}}"
        return (
            "| "
            + " | ".join([first, *(f"{c:>{w}}" for c, w in zip(cells[1:], widths[1:], strict=True))])
            + " |"
        )

    rule = "| " + " | ".join(["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]) + " |"
    return "\n".join([line(head), rule, *map(line, rows)])


_BUILT = {"--enable-optimizations": "PGO", "--with-lto": "LTO"}
_SAMPLE_HEAD = [
    "",
    "CPU µs/request",
    "user",
    "system",
    "requests/s",
    "busy",
    "p50 ms",
    "p99 ms",
    "PSS MiB",
    "peak",
]


def sample_table(samples: Sequence[Sample]) -> str:
    """One row per subject in the order of their first run: medians, with the spread of the first figure."""
    rows = []
    for subject in dict.fromkeys(s.subject for s in samples):
        mine = [s for s in samples if s.subject == subject]

        def median(metric: str, digits: int, mine: list[Sample] = mine) -> str:
            return f"{statistics.median(getattr(s, metric) for s in mine):,.{digits}f}"

        rows.append(
            [
                subject,
                spread([s.cpu_us for s in mine]).show(1),
                median("user_us", 1),
                median("system_us", 1),
                median("requests_per_s", 0),
                f"{statistics.median(s.busy for s in mine):.0%}",
                median("p50_ms", 2),
                median("p99_ms", 2),
                median("pss_mib", 1),
                median("peak_mib", 1),
            ]
        )
    return table(_SAMPLE_HEAD, rows)


def options(description: str | None, *, rounds: int, seconds: int | None = None) -> argparse.ArgumentParser:
    """The options that all benchmarks share; those of a load by wrk only where `seconds` says so."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=_whole, default=rounds, help="how often all subjects take their turn"
    )
    if seconds is not None:
        parser.add_argument("--seconds", type=_whole, default=seconds, help="measured time of one run")
        parser.add_argument(
            "--warm-up", type=_whole, default=1, help="seconds of load before it, not measured"
        )
        parser.add_argument(
            "--connections", type=_whole, default=64, help="keep-alive connections of the load"
        )
        parser.add_argument("--fixed", action="store_true", help="all requests the same bytes")
    parser.add_argument("--proxy-core", type=int, default=0, help="core of the program under test")
    parser.add_argument("--load-core", type=int, default=1, help="core of load generator and upstreams")
    parser.add_argument("--out", type=Path, help="where the JSON goes (benchmarks/results/NAME.json)")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    return parser


def pace(chosen: argparse.Namespace) -> Pace:
    return Pace(
        rounds=chosen.rounds,
        seconds=chosen.seconds,
        warm_up=chosen.warm_up,
        connections=chosen.connections,
        vary=not chosen.fixed,
    )


def _whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def interpreter() -> str:
    """Which Python this is and how it was built: PGO and LTO take up to 18 % off what it costs.

    It says so itself, but for Debian's, which names the settings of its shared library instead; that it has
    both is in its changelog (3.8.0~b2-3 and 3.8.0~b3-1).
    """
    said = sysconfig.get_config_var("CONFIG_ARGS") or ""
    built = [name for option, name in _BUILT.items() if option in said]
    if built:
        how = " and ".join(built)
    elif "deb_system" in sysconfig.get_scheme_names():
        how = "Debian's: PGO and LTO on amd64 and arm64"
    else:
        how = "neither PGO nor LTO"
    return f"{platform.python_version()} ({how})"


def machine() -> dict[str, object]:
    """What the figures depend on and a reader cannot guess."""
    named = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    model = named[0].partition(":")[2].strip() if named else platform.machine()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": interpreter(),
        "commit": commit,
        "load_average": os.getloadavg()[0],
    }


def finish(
    name: str, chosen: argparse.Namespace, rows: Sequence[Mapping[str, object]], findings: Sequence[Finding]
) -> int:
    """Print the findings, write everything to JSON, and say with the exit code whether targets were met."""
    if findings:
        print("\n" + table(["", "median (lowest to highest)", "target", ""], [f.row() for f in findings]))
    out: Path = chosen.out or ROOT / "benchmarks" / "results" / f"{name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    settings = {k: v for k, v in vars(chosen).items() if k != "out"}
    document = {
        "benchmark": name,
        "machine": machine(),
        "settings": settings,
        "runs": rows,
        "findings": [asdict(f) | {"met": f.met} for f in findings],
    }
    out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    print(f"\nPython {interpreter()}\n{out}")
    return int(chosen.check and not all(f.met for f in findings))


def finish_samples(
    name: str, chosen: argparse.Namespace, samples: Sequence[Sample], findings: Sequence[Finding]
) -> int:
    """`finish` for runs that are all samples, with their table first."""
    print(sample_table(samples))
    return finish(name, chosen, [asdict(s) for s in samples], findings)


def script(main: Callable[[], int]) -> None:
    """Run a script's main; what stands in its way becomes one message and exit code 2."""
    try:
        sys.exit(main())
    except Unusable as problem:
        print(problem, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
