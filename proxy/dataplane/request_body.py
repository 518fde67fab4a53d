"""Where a request's body ends, whichever way it is framed."""

from proxy.dataplane.chunked import ChunkedReader

DISCARDABLE = 64 * 1024
"""A body of an answered request that is at most this long is read to its end, so that the connection
can be used again; a longer one, or one of unknown length, costs the connection."""


class RequestBody:
    """Counts down `Content-Length`, or reads chunks."""

    __slots__ = ("_chunks", "_left")

    def __init__(self, length: int, chunks: ChunkedReader | None) -> None:
        self._left = length
        self._chunks = chunks

    def take(self, data: bytes) -> tuple[bytes, bool, bytes]:
        """(payload, whether the body ends with it, what is behind the body). Raises `BadChunk`."""
        chunks = self._chunks
        if chunks is not None:
            payload = chunks.feed(data) if data else b""
            return payload, chunks.done, chunks.rest
        left = self._left
        if len(data) <= left:
            self._left = left - len(data)
            return data, len(data) == left, b""
        self._left = 0
        return data[:left], True, data[left:]

    @property
    def far_to_go(self) -> bool:
        return self._chunks is not None or self._left > DISCARDABLE

    @property
    def trailers(self) -> bytes:
        """The trailer lines that may go on, once the body has ended."""
        return self._chunks.trailers if self._chunks is not None else b""
