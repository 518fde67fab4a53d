"""Many connections from, or to, a process of their own, so that the tests' process holds only Fusebox.

crowd.py serve                the other side: prints its port; answers `/…` at once, `/hold` never,
                              `/big` with 50 MB; a line on stdin makes it print the bytes sent
crowd.py ask PORT COUNT       COUNT open connections, two requests on each; prints how many were
                              answered 200 each time, and waits for a line before it leaves
crowd.py stall PORT COUNT     COUNT requests for `/big` of which nothing is read; prints "ready"
crowd.py reset PORT COUNT     COUNT connections reset in all phases of a request; prints "done"
"""

import asyncio
import resource
import socket
import struct
import sys
from typing import cast

import uvloop

BIG = 50_000_000
ZEROS = bytes(65_536)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"


class Serving(asyncio.Protocol):
    sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.left = 0
        self.paused = False

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /big"):
            self.left = BIG
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG)
            self._pour()
        elif data.startswith(b"GET /hold"):
            pass
        elif data.endswith(b"\r\n\r\n"):
            self.transport.write(OK)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self._pour()

    def _pour(self) -> None:
        while self.left > 0 and not self.paused and not self.transport.is_closing():
            piece = ZEROS[: self.left]
            self.left -= len(piece)
            Serving.sent += len(piece)
            self.transport.write(piece)


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Serving, "127.0.0.1", 0, backlog=4096)
    say(server.sockets[0].getsockname()[1])
    while await loop.run_in_executor(None, sys.stdin.readline):
        say(Serving.sent)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def ask(port: int, count: int) -> None:
    crowd = [connect(port) for _ in range(count)]
    for _ in range(2):
        for sock in crowd:
            sock.sendall(GET % b"/")
        say(sum(answered(sock) for sock in crowd))
    sys.stdin.readline()


def answered(sock: socket.socket) -> bool:
    data = b""
    while not data.endswith(b"\r\n\r\nok"):
        piece = sock.recv(4096)
        if not piece:
            return False
        data += piece
    return data.startswith(b"HTTP/1.1 200 ")


def stall(port: int, count: int) -> None:
    crowd = []
    for _ in range(count):
        sock = connect(port)
        sock.sendall(GET % b"/big")
        crowd.append(sock)
    say("ready")
    sys.stdin.readline()


PHASES = (
    b"",
    b"GET /p HT",
    GET % b"/",
    GET % b"/hold",
    GET % b"/big",
    (GET % b"/") * 3 + b"GET",
    b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhell",
    b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    b"GET /p HTTP/1.1\r\nHost : x\r\n\r\n",
)


def reset(port: int, count: int) -> None:
    batch = 90
    for _ in range(0, count, batch):
        crowd = [connect(port) for _ in range(batch)]
        for number, sock in enumerate(crowd):
            sock.sendall(PHASES[number % len(PHASES)])
        for number, sock in enumerate(crowd):
            if PHASES[number % len(PHASES)] == GET % b"/big":
                sock.recv(1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
    say("done")


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    action, *numbers = sys.argv[1:]
    if action == "serve":
        uvloop.run(serve())
    else:
        {"ask": ask, "stall": stall, "reset": reset}[action](*map(int, numbers))
