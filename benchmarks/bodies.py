"""Large bodies down and up: throughput, CPU per GiB and growth of memory, beside nginx.

The client and the upstream leave the bytes in the kernel, so that the proxy is what takes the time;
`direct` is what the two reach without one. `busy` well below 100 % means that they were the limit.
"""

import os
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import servers
from bulk_upstream import read_head, send_file, swallow
from harness import Lab, Program, Unusable, progress
from proc import forget_peak
from report import Finding, Spread, finish, options, script, spread, table

GIB = 1 << 30
WARM_UP = 64 << 20
GROWTH_MIB = 8.0
DIRECT = "direct"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One body through one program."""

    subject: str
    direction: str
    round: int
    gib_per_s: float
    cpu_s_per_gib: float
    busy: float
    growth_mib: float  # highest resident size during the transfer - resident size before it


def down(port: int, size: int, _: Path) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"GET /content/bulk/{size} HTTP/1.1\r\nHost: bench.example\r\n\r\n".encode())
        start, fields, along = read_head(connection)
        if " 200 " not in start or fields.get("content-length") != str(size):
            raise Unusable(f"the download was answered with {start!r} {fields}")
        swallow(connection, size - along)


def up(port: int, size: int, payload: Path) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection, payload.open("rb") as file:
        head = f"POST /content/bulk HTTP/1.1\r\nHost: bench.example\r\nContent-Length: {size}\r\n\r\n"
        connection.sendall(head.encode())
        send_file(connection, file.fileno(), size)
        start, _, _ = read_head(connection)
        if " 204 " not in start:
            raise Unusable(f"the upload was answered with {start!r}")


DIRECTIONS: dict[str, Callable[[int, int, Path], None]] = {"down": down, "up": up}


def transfer(program: Program, subject: str, direction: str, round_: int, payload: Path) -> Transfer:
    move = DIRECTIONS[direction]
    size = payload.stat().st_size
    move(program.port, min(WARM_UP, size), payload)
    resident = program.memory_kib("VmRSS")
    forget_peak(program.pid)
    before, began = program.usage(), time.monotonic()
    move(program.port, size, payload)
    took = time.monotonic() - began
    spent = program.usage() - before
    return Transfer(
        subject=subject,
        direction=direction,
        round=round_,
        gib_per_s=size / GIB / took,
        cpu_s_per_gib=spent.total_s / (size / GIB),
        busy=spent.total_s / took,
        growth_mib=(program.memory_kib("VmHWM") - resident) / 1024,
    )


def proxy_columns(mine: Sequence[Transfer]) -> list[str]:
    return [
        f"{statistics.median(t.cpu_s_per_gib for t in mine):.3f}",
        f"{statistics.median(t.busy for t in mine):.0%}",
        spread([t.growth_mib for t in mine]).show(1),
    ]


def show(transfers: Sequence[Transfer]) -> str:
    rows = []
    for key in dict.fromkeys((t.direction, t.subject) for t in transfers):
        mine = [t for t in transfers if (t.direction, t.subject) == key]
        rows.append(
            [
                f"{key[0]}: {key[1]}",
                spread([t.gib_per_s for t in mine]).show(2),
                *("" if key[1] == DIRECT else text for text in proxy_columns(mine)),
            ]
        )
    return table(["", "GiB/s", "CPU s/GiB", "busy", "growth MiB"], rows)


def findings(transfers: Sequence[Transfer]) -> list[Finding]:
    of = {(t.subject, t.direction, t.round): t for t in transfers}
    rounds = sorted({t.round for t in transfers})
    found = []
    for direction in DIRECTIONS:
        for peer in PEERS:
            if peer.startswith("nginx"):
                shares = [
                    of["fusebox", direction, r].gib_per_s / of[peer, direction, r].gib_per_s for r in rounds
                ]
                found.append(
                    Finding(
                        text=f"throughput {direction}, fusebox ÷ {peer}", value=spread(shares), at_least=0.6
                    )
                )
        growth = spread([of["fusebox", direction, r].growth_mib for r in rounds])
        highest = Spread(growth.high, growth.low, growth.high)  # a bound on memory holds for every round
        found.append(
            Finding(text=f"highest growth {direction}, MiB", value=highest, at_most=GROWTH_MIB, digits=1)
        )
    return found


PEERS: dict[str, Callable[[Lab, int], AbstractContextManager[Program]]] = {
    "fusebox": servers.fusebox,
    "nginx": partial(servers.nginx_proxy, buffering=True),
    "nginx, unbuffered": partial(servers.nginx_proxy, buffering=False),
}


def main() -> int:
    parser = options(__doc__, rounds=5)
    parser.add_argument("--mib", type=int, default=1024, help="size of the body")
    chosen = parser.parse_args()
    servers.install_check(["nginx"])
    transfers: list[Transfer] = []
    with Lab(chosen.proxy_core, chosen.load_core) as lab:
        payload = lab.directory / "payload"
        payload.touch()
        os.truncate(payload, chosen.mib << 20)
        with servers.bulk(lab, payload) as upstream:
            down(upstream.port, chosen.mib << 20, payload)  # brings the file into the page cache
            for round_ in range(chosen.rounds):
                progress(f"round {round_ + 1} of {chosen.rounds}")
                for direction in DIRECTIONS:
                    transfers.append(transfer(upstream, DIRECT, direction, round_, payload))
                    for name, start in PEERS.items():
                        with start(lab, upstream.port) as proxy:
                            transfers.append(transfer(proxy, name, direction, round_, payload))
    print(show(transfers))
    return finish("bodies", chosen, [asdict(t) for t in transfers], findings(transfers))


if __name__ == "__main__":
    script(main)
