"""Who was seen while an experiment ran: a Bloom filter, which holds no name (facts 2.13).

Kirsch and Mitzenmacher 2006, "Less hashing, same performance": the places of a key are h₁ + i·h₂, from
the two halves of one 128-bit hash. Who was added is always found; who was not is found all the same
by `false_share`.
"""

from typing import TypeAlias

from mmh3 import mmh3_x64_128_uintdigest

Cells: TypeAlias = "bytearray | memoryview"

PLACES = 7
SIZE = 2 * 1024 * 1024
"""Bytes. With a million users in it 1 of 1,800 others is found, with two million 1 of 50."""

_HALF = (1 << 64) - 1
_PART = 4096


class Seen:
    """A filter in `cells`, which may be a mapped file that several processes share.

    Two processes that set two places in one byte within the same few nanoseconds can lose one of them;
    it is set again with the next request of that user.
    """

    __slots__ = ("_cells", "_places")

    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self._places = len(cells) * 8

    def add(self, key: bytes) -> None:
        digest = mmh3_x64_128_uintdigest(key)
        at, step = digest & _HALF, digest >> 64 | 1
        cells, places = self._cells, self._places
        for _ in range(PLACES):
            place = at % places
            cell, bit = place >> 3, 1 << (place & 7)
            if not cells[cell] & bit:  # what is set already is not written: no page becomes dirty
                cells[cell] |= bit
            at += step

    def __contains__(self, key: bytes) -> bool:
        digest = mmh3_x64_128_uintdigest(key)
        at, step = digest & _HALF, digest >> 64 | 1
        cells, places = self._cells, self._places
        for _ in range(PLACES):
            place = at % places
            if not cells[place >> 3] & 1 << (place & 7):
                return False
            at += step
        return True

    def false_share(self) -> float:
        """About the share of users never added who would be found, judged by a part of the cells."""
        part = bytes(self._cells[:_PART])
        filled: float = int.from_bytes(part).bit_count() / (8 * len(part))
        return filled**PLACES
