"""How soon an acknowledged change of toggles decides requests, and how long one takes, alone and by workers.

Each change is a PATCH that is in the audit log, the store and the last good file before it is answered. At
once after the answer every one of several open connections is asked, so that each worker is met; a request
that is still decided by the version before breaks the promise. The disk is that of the temporary directory.
"""

import http.client
import json
import statistics
import sys
import time
import tomllib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import servers
from harness import Lab, Program, free_port, progress
from report import Finding, finish, options, script, spread

from proxy.core.roles import Role
from proxy.storage.tokens import TokenFile

CONNECTIONS = 8
PAUSE_S = 0.06
"""Between two changes: one caller may make 20 a second."""
SUBJECTS = {"alone": (), "2 workers": ("--workers", "2")}


def rules(count: int) -> list[dict[str, object]]:
    """Scoped ones, none of them for who asks here."""
    return [
        {"scope": {"client": [f"c{it}"]}, "toggles": {"exposure_percent": it % 100}} for it in range(count)
    ]


class Operator:
    """Changes toggles of a running sidecar, one after the other, and asks what decides requests."""

    def __init__(self, lab: Lab, running: Program) -> None:
        directory = lab.directory / "fusebox" / f"state-{running.port}"
        self._token = TokenFile(directory / "tokens.json").create("bench", Role.OPERATOR)
        settings = tomllib.loads((lab.directory / "fusebox" / "fusebox.toml").read_text())
        self._admin = http.client.HTTPConnection(settings["admin"]["address"])
        self._asking = [http.client.HTTPConnection("127.0.0.1", running.port) for _ in range(CONNECTIONS)]

    def close(self) -> None:
        for connection in (self._admin, *self._asking):
            connection.close()

    def change(self, share: int) -> int:
        """The version that is in force then."""
        body = json.dumps({"toggles": {"exposure_percent": share}, "reason": "benchmark"})
        headers = {"Authorization": f"Bearer {self._token}", "If-Match": "*"}
        self._admin.request("PATCH", "/v1/toggles", body, headers)
        answer = self._admin.getresponse()
        told = json.loads(answer.read())
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(told)
        return int(told["version"])

    def decided_by(self, connection: int) -> int:
        self._asking[connection].request("GET", "/recommendations?user_id=u&k=3")
        answer = self._asking[connection].getresponse()
        answer.read()
        return int((answer.getheader("X-Fusebox-Decision") or "").rpartition("v=")[2])

    def run(self, seconds: float) -> dict[str, float]:
        took: list[float] = []
        first: list[float] = []
        old = 0
        end = time.perf_counter() + seconds
        for connection in range(CONNECTIONS):
            self.decided_by(connection)
        while time.perf_counter() < end:
            began = time.perf_counter()
            version = self.change(len(took) % 100)
            told = time.perf_counter()
            found = [self.decided_by(0)]
            first.append(1000 * (time.perf_counter() - told))
            found += [self.decided_by(it) for it in range(1, CONNECTIONS)]
            took.append(1000 * (told - began))
            old += sum(it < version for it in found)
            time.sleep(PAUSE_S)
        return {"changes": len(took), "old": old, **quantiles("change", took), **quantiles("first", first)}


def quantiles(name: str, values: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100)
    return {f"{name}_p50_ms": cuts[49], f"{name}_p99_ms": cuts[98]}


def main() -> int:
    parser = options(__doc__, rounds=3, seconds=10)
    parser.add_argument("--rules", type=int, default=0, help="scoped rules in the document")
    chosen = parser.parse_args()
    runs: list[dict[str, object]] = []
    findings = []
    with Lab(chosen.proxy_core, chosen.load_core) as lab:
        for subject, words in SUBJECTS.items():
            rows = []
            for number in range(chosen.rounds):
                command = ("-m", "proxy", "serve", *words)
                with (
                    servers.fusebox(lab, free_port(), command=command, rules=rules(chosen.rules)) as running,
                    closing(Operator(lab, running)) as operator,
                ):
                    rows.append(operator.run(chosen.seconds))
                progress(f"{subject}, round {number + 1}: {rows[-1]}")
            runs += [{"subject": subject, **row} for row in rows]

            def found(name: str, rows: Sequence[dict[str, float]] = rows) -> list[float]:
                return [row[name] for row in rows]

            findings += [
                Finding(
                    text=f"{subject}: requests by an older version after the answer",
                    value=spread(found("old")),
                    at_most=0,
                ),
                Finding(
                    text=f"{subject}: ms from the answer to the first request decided, p99",
                    value=spread(found("first_p99_ms")),
                    at_most=10,
                ),
                Finding(text=f"{subject}: ms of a change, p50", value=spread(found("change_p50_ms"))),
                Finding(text=f"{subject}: ms of a change, p99", value=spread(found("change_p99_ms"))),
            ]
    return finish("toggles", chosen, runs, findings)


if __name__ == "__main__":
    script(main)
