"""What an idle keep-alive connection costs: KiB of memory each, and CPU per request of the busy ones beside.

Each idle connection has had one request answered. Memory is the growth of the proportional set size
(PSS); what the kernel keeps for the sockets is not in it and is the same for all.
"""

import resource
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass

import servers
from harness import Lab, Pace, Program, Sample, Unusable, measure, progress, wrk
from report import Finding, finish, options, pace, ratio, sample_table, script, spread

TARGET = "/content/items/42"
BODY = 1024
TELLING = 1_000  # below that, growth is lost among the pages that the load before has used
PEERS: dict[str, Callable[[Lab, int], AbstractContextManager[Program]]] = {
    "fusebox": servers.fusebox,
    "nginx": servers.nginx_proxy,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """Memory with so many idle connections open."""

    subject: str
    round: int
    connections: int
    kib_each: float


@contextmanager
def held() -> Iterator[list[socket.socket]]:
    """Connections that are closed together."""
    connections: list[socket.socket] = []
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close()


def open_until(connections: list[socket.socket], count: int, port: int) -> None:
    """Open connections up to `count`, each with one request answered."""
    for number in range(len(connections), count):
        connection = socket.create_connection(("127.0.0.1", port), 10)
        connections.append(connection)
        connection.sendall(
            b"GET %b HTTP/1.1\r\nHost: bench.example\r\nX-User-Id: user-%d\r\n\r\n"
            % (TARGET.encode(), number)
        )
        received = b""
        while len(received.partition(b"\r\n\r\n")[2]) < BODY:
            piece = connection.recv(65536)
            if not piece:
                raise Unusable(f"connection {number + 1} was closed after {received[:100]!r}")
            received += piece


def climb(
    lab: Lab, proxy: Program, rhythm: Pace, *, name: str, counts: Sequence[int], round_: int
) -> Iterator[tuple[Idle, Sample]]:
    """Open more and more connections; at each step see the memory, then load the proxy beside them."""
    wrk(lab, proxy.port, TARGET, rhythm, rhythm.warm_up)
    empty = proxy.memory_kib()
    with held() as connections:
        for count in counts:
            open_until(connections, count, proxy.port)
            each = (proxy.memory_kib() - empty) / count
            yield (
                Idle(subject=name, round=round_, connections=count, kib_each=each),
                measure(lab, proxy, rhythm, subject=f"{name}, {count:,} idle", target=TARGET, round_=round_),
            )


def main() -> int:
    parser = options(__doc__, rounds=3, seconds=3)
    parser.add_argument("--idle", nargs="+", type=int, default=[64, 1_000, 10_000], help="rising counts")
    chosen = parser.parse_args()
    servers.install_check(["nginx"])
    memory: list[Idle] = []
    samples: list[Sample] = []
    counts: list[int] = sorted(chosen.idle)
    with Lab(chosen.proxy_core, chosen.load_core) as lab:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit < counts[-1] + 1_000:
            raise Unusable(f"{counts[-1]} connections need more than {limit} open files: raise ulimit -Hn")
        with servers.nginx_answers(lab, {"/": servers.json_body(BODY)}) as upstream:
            for round_ in range(chosen.rounds):
                for name, start in PEERS.items():
                    progress(f"round {round_ + 1} of {chosen.rounds}: {name}")
                    with start(lab, upstream.port) as proxy:
                        for idle, sample in climb(
                            lab, proxy, pace(chosen), name=name, counts=counts, round_=round_
                        ):
                            memory.append(idle)
                            samples.append(sample)
    few, many = f"fusebox, {counts[0]:,} idle", f"fusebox, {counts[-1]:,} idle"
    found = [
        Finding(
            text=f"KiB per idle connection, {name}, {count:,}",
            value=spread([m.kib_each for m in memory if (m.subject, m.connections) == (name, count)]),
            digits=1,
        )
        for name in PEERS
        for count in counts
        if count >= TELLING
    ]
    found.append(
        Finding(
            text=f"CPU per request, fusebox, {counts[-1]:,} idle ÷ {counts[0]:,} idle",
            value=ratio(samples, "cpu_us", many, few),
        )
    )
    print(sample_table(samples))
    return finish("connections", chosen, [*map(asdict, memory), *map(asdict, samples)], found)


if __name__ == "__main__":
    script(main)
