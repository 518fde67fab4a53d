"""The Merkle tree of RFC 6962 (§2.1), grown from the right: hashes, root, proofs.

A tree is kept as its `Frontier`: the roots of the perfect subtrees it falls into, largest first, at most
one per bit of its size. Appending costs one hash on average; the root costs one per subtree.

Proofs are made from `Roots`, a function that gives the tree hash of any range of leaves: who keeps only
leaf hashes computes it with `root_of`, who keeps subtree roots takes those.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

Roots = Callable[[int, int], bytes]
"""(first, end) → MTH(D[first:end]), for ranges that are not empty."""


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
        return self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> "Frontier":
        """The tree with more leaf hashes, in their order."""
        peaks, size = list(self.peaks), self.size
        for leaf in leaves:
            node, ones = leaf, size
            while ones & 1:
                node = sha256(b"\x01" + peaks.pop() + node).digest()
                ones >>= 1
            peaks.append(node)
            size += 1
        return Frontier(size, tuple(peaks))

    def graft(self, root: bytes, size: int) -> "Frontier":
        """The tree with a perfect subtree of `size` leaves at its right; ValueError where none can stand."""
        if size < 1 or size & (size - 1) or self.size % size:
            raise ValueError(f"no perfect subtree of {size} leaves can stand at leaf {self.size}")
        peaks, ones = list(self.peaks), self.size // size
        while ones & 1:
            root = node_hash(peaks.pop(), root)
            ones >>= 1
        peaks.append(root)
        return Frontier(self.size + size, tuple(peaks))

    def whole(self) -> bool:
        """Whether there are as many peaks as the size asks for, each as long as a hash."""
        return len(self.peaks) == self.size.bit_count() and all(len(peak) == 32 for peak in self.peaks)

    def root(self) -> bytes:
        """MTH of RFC 6962; of the empty tree the hash of nothing."""
        if not self.peaks:
            return sha256().digest()
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The tree hash over leaf hashes."""
    return Frontier().extend(leaves).root()


def inclusion_proof(index: int, size: int, roots: Roots) -> list[bytes]:
    """PATH(index, D[size]) of RFC 6962 §2.1.1, leaf's sibling first; ValueError beyond the tree."""
    if not 0 <= index < size:
        raise ValueError(f"entry {index} is not in a tree of {size}")
    path = []
    first, end = 0, size
    while end - first > 1:
        middle = first + _split(end - first)
        if index < middle:
            path.append(roots(middle, end))
            end = middle
        else:
            path.append(roots(first, middle))
            first = middle
    return path[::-1]


def consistency_proof(old: int, size: int, roots: Roots) -> list[bytes]:
    """PROOF(old, D[size]) of RFC 6962 §2.1.2; ValueError unless 0 < old <= size."""
    if not 0 < old <= size:
        raise ValueError(f"a tree of {size} has no proof from {old}")
    proof = []
    first, end = 0, size
    while end != old:
        middle = first + _split(end - first)
        if old <= middle:
            proof.append(roots(middle, end))
            end = middle
        else:
            proof.append(roots(first, middle))
            first = middle
    if first:  # otherwise the old root itself, which whoever asks has already
        proof.append(roots(first, end))
    return proof[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """RFC 9162 §2.1.3.2."""
    if not 0 <= index < size:
        return False
    here, last, node = index, size - 1, leaf
    for hash_ in proof:
        if last == 0:
            return False
        if here & 1 or here == last:
            node = node_hash(hash_, node)
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            node = node_hash(node, hash_)
        here, last = here >> 1, last >> 1
    return last == 0 and node == root


def verify_consistency(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """RFC 9162 §2.1.4.2. The empty tree is consistent with every other."""
    if not 0 <= old <= size:
        return False
    if old in {0, size}:
        return not proof and old_root == (root if old else root_of(()))
    path = list(proof)
    if not old & (old - 1):
        path.insert(0, old_root)
    if not path:
        return False
    here, last = old - 1, size - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    before = after = path[0]
    for hash_ in path[1:]:
        if last == 0:
            return False
        if here & 1 or here == last:
            before, after = node_hash(hash_, before), node_hash(hash_, after)
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            after = node_hash(after, hash_)
        here, last = here >> 1, last >> 1
    return last == 0 and before == old_root and after == root


def _split(size: int) -> int:
    """The largest power of two below `size`, which is at least 2."""
    return 1 << (size - 1).bit_length() - 1
