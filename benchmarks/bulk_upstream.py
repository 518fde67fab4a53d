"""An upstream for large bodies that costs next to nothing: the kernel sends, the kernel throws away.

Called with a port and a file. A GET of /…/N is answered with the first N bytes of the file
(sendfile), a body that is posted is dropped without being copied (MSG_TRUNC, tcp(7)).
"""

import os
import socket
import sys
import threading
from pathlib import Path

PIECE = 1 << 20


def read_head(connection: socket.socket) -> tuple[str, dict[str, str], int]:
    """Start line, fields by lower-case name, how much of the body came along; ("", {}, 0) at the end."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65536)
        if not piece:
            return "", {}, 0
        received += piece
    head, _, rest = received.partition(b"\r\n\r\n")
    start, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return start, fields, len(rest)


def swallow(connection: socket.socket, left: int) -> None:
    """Drop `left` bytes inside the kernel."""
    room = bytearray(PIECE)
    while left:
        got = connection.recv_into(room, min(left, PIECE), socket.MSG_TRUNC)
        if not got:
            raise ConnectionError(f"closed {left} bytes too early")
        left -= got


def send_file(connection: socket.socket, file: int, size: int) -> None:
    sent = 0
    while sent < size:
        sent += os.sendfile(connection.fileno(), file, sent, size - sent)


def serve(connection: socket.socket, payload: Path) -> None:
    file = os.open(payload, os.O_RDONLY)
    with connection:
        while True:
            start, fields, along = read_head(connection)
            if not start:
                break
            if start.startswith("GET "):
                size = int(start.split()[1].rpartition("/")[2])
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                send_file(connection, file, size)
            else:
                length = int(fields["content-length"])
                swallow(connection, length - along)
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
    os.close(file)


def main() -> None:
    port, payload = int(sys.argv[1]), Path(sys.argv[2])
    with socket.create_server(("127.0.0.1", port), backlog=128) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, payload), daemon=True).start()


if __name__ == "__main__":
    main()
