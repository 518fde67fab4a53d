"""Signed checkpoints: what the log was at some size, in a form that can be kept elsewhere.

The text is a C2SP tlog-checkpoint (origin, size, root) with one extension line for the time, in a C2SP
signed note with an Ed25519 signature (type 0x01); the name of the key is the origin. Whoever holds the
verifier key, one line of text, can judge a checkpoint without the log.
"""

import binascii
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ED25519 = b"\x01"
_DASH = "\N{EM DASH} "
_TIME = "time "
SIGNATURES = 16  # signed-note: how many have to be accepted


class BadNote(ValueError):
    """No checkpoint, or none that can be trusted; the text says why."""


class UnknownSigner(BadNote):
    """Well formed, but signed by none of the known keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The tree of `size` entries had this `root`. `at` is RFC 3339, empty in checkpoints of others."""

    origin: str
    size: int
    root: bytes
    at: str = ""

    def text(self) -> str:
        """What is signed."""
        time = f"{_TIME}{self.at}\n" if self.at else ""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n{time}"


class Verifier:
    """A public key with its name. `vkey` is the line that others keep: name+id+key."""

    def __init__(self, name: str, public: bytes) -> None:
        if fault := name_fault(name):
            raise ValueError(fault)
        self.name = name
        self._encoded = _ED25519 + public
        self._key = Ed25519PublicKey.from_public_bytes(public)
        self.key_id = sha256(name.encode() + b"\n" + self._encoded).digest()[:4]

    @classmethod
    def from_vkey(cls, vkey: str) -> "Verifier":
        """ValueError says what is wrong with the line."""
        parts = vkey.strip().split("+", 2)
        if len(parts) != 3:
            raise ValueError("a verifier key looks like name+0123abcd+base64")
        name, key_id, encoded = parts
        try:
            raw = b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise ValueError(f"a verifier key ends in base64: {error}") from error
        if len(raw) != 33 or raw[:1] != _ED25519:
            raise ValueError("not an Ed25519 verifier key")
        made = cls(name, raw[1:])
        if made.key_id.hex() != key_id:
            raise ValueError(f"the key's id is {made.key_id.hex()}, not {key_id}: the line was altered")
        return made

    @property
    def vkey(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{b64encode(self._encoded).decode()}"

    def signed(self, text: str, signature: bytes) -> bool:
        try:
            self._key.verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


class Signer:
    """A private key with its name. `seed` has 32 bytes."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = Verifier(name, self._key.public_key().public_bytes_raw())

    def checkpoint(self, size: int, root: bytes, at: str) -> str:
        """The signed note."""
        text = Checkpoint(origin=self.verifier.name, size=size, root=root, at=at).text()
        signature = b64encode(self.verifier.key_id + self._key.sign(text.encode())).decode()
        return f"{text}\n{_DASH}{self.verifier.name} {signature}\n"


def name_fault(name: str) -> str:
    """What keeps a text from being an origin and the name of a key; empty: nothing."""
    if not name or "+" in name or not name.isprintable() or any(map(str.isspace, name)):
        return "an origin is not empty and holds no space, no + and no control character"
    return ""


def opened(note: str, verifiers: list[Verifier]) -> Checkpoint:
    """The checkpoint in a note that one of `verifiers` signed; BadNote says why it cannot be trusted.

    Signatures of others are ignored, as the specification asks; a bad one of a known key spoils the note.
    """
    text, signatures = _parted(note)
    known = {(it.name, it.key_id): it for it in verifiers}
    trusted = False
    for name, raw in signatures:
        if (verifier := known.get((name, raw[:4]))) is None:
            continue
        if not verifier.signed(text, raw[4:]):
            raise BadNote(f"the signature of {name} does not fit the text")
        trusted = True
    checkpoint = _checkpoint(text)
    if not trusted:
        names = ", ".join(sorted({f"{name}+{raw[:4].hex()}" for name, raw in signatures}))
        raise UnknownSigner(f"signed by {names}, which is no key known here")
    return checkpoint


def notes(content: str) -> list[str]:
    """The notes in a file that holds one after the other, as a checkpoint sink appends them."""
    found: list[str] = []
    lines: list[str] = []
    for line in re.findall("[^\n]*\n|[^\n]+", content):
        if lines and lines[-1].startswith(_DASH) and not line.startswith(_DASH):
            found.append("".join(lines))
            lines = []
        if lines or line.strip():
            lines.append(line)
    return [*found, "".join(lines)] if lines else found


def _parted(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """The signed text and (name, key id + signature) of each signature line."""
    if any(character < " " and character != "\n" for character in note):
        raise BadNote("control characters in it")
    text, gap, rest = note.rpartition("\n\n")
    lines = rest.removesuffix("\n").split("\n")
    if not gap or not rest.endswith("\n") or len(lines) > SIGNATURES:
        raise BadNote("not a signed note: text, an empty line, signature lines")
    signatures = []
    for line in lines:
        name, space, encoded = line.removeprefix(_DASH).partition(" ")
        raw = _base64(encoded)
        if not line.startswith(_DASH) or not space or raw is None or len(raw) < 5:
            raise BadNote(f"not a signature line: {line[:80]!r}")
        signatures.append((name, raw))
    return text + "\n", signatures


def _checkpoint(text: str) -> Checkpoint:
    lines = text.removesuffix("\n").split("\n")
    if len(lines) < 3 or not all(lines):
        raise BadNote("not a checkpoint: origin, size, root")
    origin, size, root = lines[0], lines[1], _base64(lines[2])
    if not (size.isascii() and size.isdigit() and len(size) < 20 and str(int(size)) == size):
        raise BadNote(f"not the size of a tree: {size[:40]!r}")
    if root is None or len(root) != 32:
        raise BadNote("not the root of a tree")
    times = [line.removeprefix(_TIME) for line in lines[3:] if line.startswith(_TIME)]
    return Checkpoint(origin=origin, size=int(size), root=root, at=times[0] if times else "")


def _base64(text: str) -> bytes | None:
    """Only the one canonical spelling: else a changed character could mean the same."""
    try:
        raw = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if b64encode(raw).decode() == text else None
