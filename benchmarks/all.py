"""All benchmarks one after the other, in less than 15 minutes; the exit code says whether all went well.

Each prints its own tables and writes its own JSON. With --quick everything runs once and briefly: a
check that the benchmarks work, not a measurement.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from report import table

SCRIPTS = {
    "instructions": ["--rounds", "10"],
    "peers": ["--rounds", "5", "--seconds", "4"],
    "fallback": ["--rounds", "5", "--seconds", "4"],
    "recommend": ["--rounds", "5", "--seconds", "4"],
    "cache": ["--rounds", "5", "--seconds", "4"],
    "breaker": ["--rounds", "5", "--seconds", "4"],
    "actions": ["--rounds", "5", "--seconds", "4"],
    "bodies": ["--rounds", "5"],
    "connections": ["--rounds", "3", "--seconds", "3"],
    "audit": ["--rounds", "3"],
    "decide": ["--rounds", "5", "--seconds", "4"],
    "toggles": ["--rounds", "3"],
    "decision_quality": ["--rounds", "2", "--tick", "0.5", "--days", "3", "--quiet-rounds", "1"],
}
QUICK = {
    "instructions": ["--rounds", "1", "--requests", "50", "--only", "killed", "forward"],
    "peers": ["--rounds", "1", "--seconds", "1"],
    "fallback": ["--rounds", "1", "--seconds", "1"],
    "recommend": ["--rounds", "1", "--seconds", "1"],
    "cache": ["--rounds", "1", "--seconds", "1"],
    "breaker": ["--rounds", "1", "--seconds", "1"],
    "actions": ["--rounds", "1", "--seconds", "1"],
    "bodies": ["--rounds", "1", "--mib", "256"],
    "connections": ["--rounds", "1", "--seconds", "1"],
    "audit": ["--rounds", "1", "--seconds", "0.5", "--entries", "20000", "--postgres-entries", "5000"],
    "decide": ["--rounds", "1", "--seconds", "1", "--requests", "5000"],
    "toggles": ["--rounds", "1", "--seconds", "2"],
    "decision_quality": ["--rounds", "1", "--tick", "1", "--days", "0.5", "--quiet-rounds", "1"],
}
VERDICTS = {0: "ok", 1: "FAILED or target missed", 2: "could not run"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=list(SCRIPTS), help="these only")
    parser.add_argument("--quick", action="store_true", help="once and briefly")
    parser.add_argument("--out", type=Path, help="directory for the JSON files (benchmarks/results)")
    parser.add_argument("--check", action="store_true", help="a missed target is a failure")
    chosen = parser.parse_args()
    rows, worst = [], 0
    for name in chosen.only:
        print(f"\n# {name}\n", flush=True)
        argv = [sys.executable, str(Path(__file__).with_name(f"{name}.py"))]
        argv += (QUICK if chosen.quick else SCRIPTS)[name]
        if chosen.out:
            argv += ["--out", str(chosen.out / f"{name}.json")]
        if chosen.check:
            argv.append("--check")
        began = time.monotonic()
        code = subprocess.run(argv, check=False).returncode
        rows.append([name, VERDICTS.get(code, f"exit {code}"), f"{time.monotonic() - began:.0f}"])
        worst = max(worst, abs(code))
    print("\n" + table(["benchmark", "", "seconds"], rows))
    return worst


if __name__ == "__main__":
    sys.exit(main())
