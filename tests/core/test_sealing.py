"""Sealed fields open for who has the key, and for nobody else."""

import random

import pytest

from proxy.core.sealing import Sealer, open_box


def sealer(master=b"m" * 32, seed=1):
    return Sealer(master, random.Random(seed).randbytes)


def test_a_box_opens_again():
    """Under its key, for what it is about."""
    one = sealer()
    tag = one.tag("user-1")
    key_id, wrapped = one.new_key(tag)
    key = sealer(seed=2).unwrap(key_id, tag, wrapped)  # only the master key counts
    box = one.seal(key, key_id, "user.login", b"content")
    assert open_box(key, key_id, "user.login", box) == b"content"
    assert one.seal(key, key_id, "user.login", b"content") != box  # nonces differ


def test_nothing_else_opens_it():
    """Another key, another action, another id, an altered box, another master."""
    one = sealer()
    tag = one.tag("user-1")
    key_id, wrapped = one.new_key(tag)
    key = one.unwrap(key_id, tag, wrapped)
    box = one.seal(key, key_id, "user.login", b"content")
    altered = ("A" if box[0] != "A" else "B") + box[1:]
    for attempt in (
        (b"k" * 32, key_id, "user.login", box),
        (key, "0" * 32, "user.login", box),
        (key, key_id, "user.logout", box),
        (key, key_id, "user.login", altered),
        (key, key_id, "user.login", "AAAA"),
        (key, key_id, "user.login", "?"),
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - any
            open_box(*attempt)
    for other, its_tag in ((sealer(b"n" * 32), tag), (one, one.tag("user-2"))):
        with pytest.raises(ValueError, match="altered"):
            other.unwrap(key_id, its_tag, wrapped)


def test_tags_name_nobody_without_the_master_key():
    """The same subject, another master: another tag."""
    assert sealer().tag("u") == sealer(seed=9).tag("u")
    assert sealer().tag("u") != sealer(b"n" * 32).tag("u")
    assert sealer().tag("\udcff")  # a name off the wire that is no UTF-8


def test_a_master_key_has_32_bytes():
    """Anything else is refused at once."""
    with pytest.raises(ValueError, match="32"):
        Sealer(b"short", random.randbytes)
