"""The Merkle tree against RFC 6962's own recursion, and against the vectors of certificate-transparency."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.merkle import (
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

# certificate-transparency, cpp/merkletree/merkle_tree_test.cc: eight leaves and the roots of 1…8 of them
VECTORS = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

sizes = st.integers(1, 130)


def leaves(size):
    return [leaf_hash(b"%d" % number) for number in range(size)]


def mth(nodes):
    """RFC 6962 §2.1, as written there."""
    if len(nodes) == 1:
        return nodes[0]
    k = 1
    while k * 2 < len(nodes):
        k *= 2
    return node_hash(mth(nodes[:k]), mth(nodes[k:]))


def path(m, nodes):
    """RFC 6962 §2.1.1, as written there."""
    if len(nodes) == 1:
        return []
    k = 1
    while k * 2 < len(nodes):
        k *= 2
    if m < k:
        return [*path(m, nodes[:k]), mth(nodes[k:])]
    return [*path(m - k, nodes[k:]), mth(nodes[:k])]


def subproof(m, nodes, known):
    """RFC 6962 §2.1.2, as written there."""
    if m == len(nodes):
        return [] if known else [mth(nodes)]
    k = 1
    while k * 2 < len(nodes):
        k *= 2
    if m <= k:
        return [*subproof(m, nodes[:k], known), mth(nodes[k:])]
    return [*subproof(m - k, nodes[k:], False), mth(nodes[:k])]


def roots(nodes):
    return lambda first, end: mth(nodes[first:end])


def test_the_empty_tree_hashes_nothing():
    """The root of no leaves is SHA-256 of nothing."""
    assert Frontier().root().hex() == EMPTY


def test_roots_are_those_of_certificate_transparency():
    """Every prefix of the eight known leaves has its known root."""
    tree = Frontier()
    for data, root in zip(VECTORS, ROOTS, strict=True):
        tree = tree.append(leaf_hash(data))
        assert tree.root().hex() == root
        assert tree.whole()


@given(sizes)
def test_root_is_the_recursion_of_the_rfc(size):
    """Growing from the right gives MTH."""
    assert root_of(leaves(size)) == mth(leaves(size))


@given(sizes, st.data())
def test_a_perfect_subtree_can_be_grafted(size, data):
    """A root in the place of its leaves gives the same tree."""
    nodes = leaves(size)
    power = 1 << data.draw(st.integers(0, 6))
    if power > size:
        power = 1
    first = power * data.draw(st.integers(0, size // power - 1))
    tree = Frontier().extend(nodes[:first]).graft(mth(nodes[first : first + power]), power)
    assert tree.extend(nodes[first + power :]) == Frontier().extend(nodes)


def test_a_subtree_stands_only_where_it_is_aligned():
    """A graft that would give a wrong tree is refused."""
    for before, size in ((1, 2), (0, 3), (2, 4), (0, 0)):
        with pytest.raises(ValueError, match="perfect subtree"):
            Frontier().extend(leaves(before)).graft(b"\0" * 32, size)


@given(sizes, st.data())
def test_inclusion_proofs(size, data):
    """The proof is the RFC's, proves its leaf, and nothing else."""
    nodes = leaves(size)
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, roots(nodes))
    assert proof == path(index, nodes)
    root = mth(nodes)
    assert verify_inclusion(nodes[index], index, size, proof, root)
    assert not verify_inclusion(leaf_hash(b"other"), index, size, proof, root)
    assert not verify_inclusion(nodes[index], index, size, [*proof, root], root)
    if proof:
        assert not verify_inclusion(nodes[index], index, size, proof[:-1], root)
        other = data.draw(st.integers(0, size - 1).filter(lambda it: it != index))
        assert not verify_inclusion(nodes[index], other, size, proof, root)


@given(sizes, st.data())
def test_consistency_proofs(size, data):
    """The proof is the RFC's, and a changed history or a changed proof does not pass."""
    nodes = leaves(size)
    old = data.draw(st.integers(1, size))
    proof = consistency_proof(old, size, roots(nodes))
    assert proof == subproof(old, nodes, True)
    before, after = mth(nodes[:old]), mth(nodes)
    assert verify_consistency(old, before, size, after, proof)
    assert not verify_consistency(old, leaf_hash(b"x"), size, after, proof)
    assert not verify_consistency(old, before, size, leaf_hash(b"x"), proof)
    assert not verify_consistency(old, before, size, after, [*proof, before])
    if proof:
        assert not verify_consistency(old, before, size, after, proof[:-1])
        place = data.draw(st.integers(0, len(proof) - 1))
        changed = [*proof[:place], leaf_hash(b"y"), *proof[place + 1 :]]
        assert not verify_consistency(old, before, size, after, changed)


def test_proofs_beyond_the_tree_are_refused():
    """Asking for what cannot be proved raises; verifying it is simply false."""
    with pytest.raises(ValueError, match="not in a tree of 3"):
        inclusion_proof(3, 3, roots(leaves(3)))
    for old in (0, 4):
        with pytest.raises(ValueError, match="no proof"):
            consistency_proof(old, 3, roots(leaves(3)))
    root = mth(leaves(3))
    assert not verify_inclusion(root, 3, 3, [], root)
    assert not verify_consistency(4, root, 3, root, [])
    assert verify_consistency(0, Frontier().root(), 3, root, [])
    assert not verify_consistency(0, root, 3, root, [])
    assert not verify_consistency(3, root, 3, leaf_hash(b"x"), [])
    assert not verify_consistency(1, leaves(1)[0], 3, root, [])
