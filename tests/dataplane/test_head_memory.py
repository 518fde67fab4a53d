"""What is remembered of heads is bounded: names and values that clients vary endlessly do not pile up."""

import gc
import tracemalloc
from collections.abc import Callable

import pytest

from proxy.core.policy import Limits
from proxy.dataplane.request_head import RequestReader
from proxy.dataplane.response_head import ResponseReader

HEADS = 1_023  # one less than a power of two: what is kept by the number is full
NAMES = 20  # of each head
LENGTHS = (40, 400)  # bytes of a name; all of them together would be 2 and 9 MB
MOST_BYTES = 2_000_000


def requests() -> Callable[[bytes], object]:
    read = RequestReader(Limits(), (b"x-user-id",)).read
    return lambda lines: read(b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % lines)


def responses() -> Callable[[bytes], object]:
    read = ResponseReader().read
    return lambda lines: read(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n%b\r\n" % lines)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("start", [b"n", b"X-Fusebox-", b"x_fusebox_", b"X-Forwarded-", b"Content-"])
@pytest.mark.parametrize("reader", [requests, responses])
def test_names_do_not_pile_up(
    reader: Callable[[], Callable[[bytes], object]], start: bytes, length: int
) -> None:
    """Neither those that mean nothing here nor those that are cut out."""
    read = reader()
    read(b"A: 1\r\n")
    gc.collect()
    tracemalloc.start()
    try:
        for head in range(HEADS):
            names = (b"%b%d-%d" % (start, head, name) for name in range(NAMES))
            read(b"".join(b"%b: 1\r\n" % name.ljust(length, b"x") for name in names))
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < MOST_BYTES, f"{held} bytes"


@pytest.mark.parametrize("field", [b"Connection: keep-alive, %b", b"Host: %b.example", b"TE: %b"])
def test_values_do_not_pile_up(field: bytes) -> None:
    read = RequestReader(Limits(), ()).read
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(8_000):
            line = field % (b"n%d" % number).ljust(LENGTHS[-1], b"x")
            host = b"" if field.startswith(b"Host") else b"Host: a\r\n"
            read(b"GET / HTTP/1.1\r\n%b%b\r\n\r\n" % (host, line))
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < MOST_BYTES, f"{held} bytes"
