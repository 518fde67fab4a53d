"""Signed checkpoints: the specification's forms, and nothing that was altered passes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.checkpoint import (
    BadNote,
    Checkpoint,
    Signer,
    UnknownSigner,
    Verifier,
    name_fault,
    notes,
    opened,
)

SIGNER = Signer("log.example/audit", bytes(range(32)))
ROOT = bytes(range(32, 64))
AT = "2026-01-02T03:04:05.000006Z"
NOTE = SIGNER.checkpoint(123, ROOT, AT)
KNOWN = [SIGNER.verifier]

# golang.org/x/mod/sumdb/note, note_test.go
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETERS_TEXT = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
)
PETERS_LINE = (
    "— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_a_key_and_a_signature_of_another_implementation():
    """The verifier key and the note of Go's sumdb are read and judged as there."""
    peter = Verifier.from_vkey(PETER)
    assert peter.vkey == PETER
    with pytest.raises(BadNote, match="not a checkpoint"):  # signed well
        opened(f"{PETERS_TEXT}\n{PETERS_LINE}", [peter])
    with pytest.raises(BadNote, match="does not fit"):
        opened(f"{PETERS_TEXT.lower()}\n{PETERS_LINE}", [peter])


def test_the_form_is_that_of_the_specification():
    """Origin, size, root, time; a blank line; an em dash, the name, the key id with the signature."""
    lines = NOTE.split("\n")
    assert lines[:5] == [
        "log.example/audit",
        "123",
        "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=",
        f"time {AT}",
        "",
    ]
    assert lines[5].startswith("— log.example/audit ")
    assert lines[6:] == [""]


def test_what_was_signed_is_read_back():
    """By the verifier key alone."""
    verifier = Verifier.from_vkey(SIGNER.verifier.vkey)
    assert opened(NOTE, [verifier]) == Checkpoint(origin="log.example/audit", size=123, root=ROOT, at=AT)


def test_signatures_of_strangers_are_ignored_but_not_enough():
    """A second signature does not disturb; without one of a known key the note counts for nothing."""
    other = Signer("witness.example", b"\7" * 32)
    line = other.checkpoint(123, ROOT, AT).splitlines()[-1]
    assert opened(NOTE + line + "\n", KNOWN).size == 123
    with pytest.raises(UnknownSigner, match=r"witness\.example"):
        opened(other.checkpoint(1, ROOT, ""), KNOWN)


@given(st.integers(0, len(NOTE.encode()) - 1), st.integers(1, 255))
def test_no_altered_byte_passes(place, change):
    """Whatever one byte of a note becomes, it does not mean the same and is not trusted."""
    raw = bytearray(NOTE.encode())
    raw[place] ^= change
    try:
        note = raw.decode()
    except UnicodeDecodeError:
        return
    with pytest.raises(BadNote):
        opened(note, KNOWN)


def test_only_one_spelling_of_base64_is_taken():
    """The last character before the padding has bits that mean nothing; they have to be zero."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    for line in (2, 5):  # the root, the signature
        lines = NOTE.split("\n")
        assert lines[line].endswith("=")
        last = lines[line][-2]
        lines[line] = f"{lines[line][:-2]}{alphabet[alphabet.index(last) + 1]}="
        with pytest.raises(BadNote):
            opened("\n".join(lines), KNOWN)


@pytest.mark.parametrize(
    "note",
    ["", "\n\n", "a\nb", NOTE.rstrip("\n"), NOTE.replace("\n\n", "\n"), NOTE + "x", NOTE + "\n",
     NOTE.replace("123", "0123"), NOTE.replace("—", "-"), NOTE.replace("\n", "\r\n"),
     "a\n1\n" + "\n— a AAAA\n" * 17],
)  # fmt: skip
def test_what_is_no_note_is_said_to_be_none(note):
    """Never a traceback of another kind."""
    with pytest.raises(BadNote):
        opened(note, KNOWN)


def test_many_notes_in_one_file():
    """A sink appends; each is read again, with or without empty lines between."""
    second = SIGNER.checkpoint(124, ROOT, AT)
    assert notes(NOTE + second) == [NOTE, second]
    assert notes(f"\n{NOTE}\n\n{second}\n") == [NOTE, second]
    assert notes("") == []
    assert len(notes("garbage")) == 1  # so that somebody says it is none


@pytest.mark.parametrize(
    ("line", "why"),
    [("", "looks like"), ("a+b", "looks like"), (PETER[:-4] + "!!!!", "base64"),
     (PETER.replace("c74f20a3", "c74f20a4"), "altered"), ("a+00000000+AAAA", "Ed25519"),
     (PETER.replace("Peter", "Pet er"), "origin")],
)  # fmt: skip
def test_a_bad_verifier_key_is_told_what_is_bad(line, why):
    """A line that somebody copied badly."""
    with pytest.raises(ValueError, match=why):
        Verifier.from_vkey(line)


def test_names_of_keys():
    """What the specification excludes is excluded."""
    assert not name_fault("fusebox")
    assert not name_fault("example.com/log-é")
    for name in ("", "a b", "a+b", "a\nb", "a\u00a0b", "a\u2028b"):
        assert name_fault(name)
