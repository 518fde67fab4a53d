"""The Merkle tree of RFC 6962 (§2.1), grown from the right: hashes, root, proofs.

A tree is kept as its `Frontier`: the roots of the perfect subtrees it falls into, largest first, at most
one per bit of its size. Appending costs one hash on average; the root costs one per subtree.
"""

from dataclasses import dataclass
from hashlib import sha256


def leaf_hash(data: bytes) -> bytes:
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """A tree of `size` leaves. `peaks` holds 32-byte roots of its perfect subtrees, largest first."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> "Frontier":
        """The tree with one more leaf hash."""
        peaks, size = list(self.peaks), self.size
        while size & 1:
            leaf = node_hash(peaks.pop(), leaf)
            size >>= 1
        peaks.append(leaf)
        return Frontier(self.size + 1, tuple(peaks))

    def root(self) -> bytes:
        """MTH of RFC 6962; of the empty tree the hash of nothing."""
        if not self.peaks:
            return sha256().digest()
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root
