"""Sealing what concerns a person, so that it can be forgotten without touching the log.

Each subject has a random key; private fields are sealed under it with AES-256-GCM. The key itself is kept
wrapped by the master key and found by an HMAC of the subject, so the store names nobody. When the
wrapped key is gone, nobody can open the boxes again, and the entries stay the bytes they were.
"""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Chance = Callable[[int], bytes]
"""That many bytes that nobody can guess."""

KEY_BYTES = 32
_NONCE = 12  # random: under one key 2^32 boxes are safe (NIST SP 800-38D, 8.3)


class Sealer:
    """Seals under keys that the master key wraps. `master` has 32 bytes."""

    def __init__(self, master: bytes, chance: Chance) -> None:
        if len(master) != KEY_BYTES:
            raise ValueError(f"a master key has {KEY_BYTES} bytes")
        self._chance = chance
        self._tags = hmac.digest(master, b"fusebox audit: tags", sha256)
        self._wrapping = AESGCM(hmac.digest(master, b"fusebox audit: keys", sha256))

    def tag(self, subject: str) -> bytes:
        """What finds the key of a subject; who lacks the master key cannot tell whose it is."""
        return hmac.digest(self._tags, subject.encode(errors="replace"), sha256)

    def new_key(self, tag: bytes) -> tuple[str, bytes]:
        """A key for this tag: its id, 32 hex digits, and the key wrapped."""
        key_id = self._chance(16).hex()
        return key_id, self._seal(self._wrapping, self._chance(KEY_BYTES), key_id.encode() + tag)

    def unwrap(self, key_id: str, tag: bytes, wrapped: bytes) -> bytes:
        """The key; ValueError when it was wrapped by another master key, for another tag, or altered."""
        return _open(self._wrapping, wrapped, key_id.encode() + tag)

    def seal(self, key: bytes, key_id: str, action: str, content: bytes) -> str:
        """A box, base64, bound to its key and to what it is about."""
        return b64encode(self._seal(AESGCM(key), content, _about(key_id, action))).decode()

    def _seal(self, cipher: AESGCM, content: bytes, about: bytes) -> bytes:
        nonce = self._chance(_NONCE)
        return nonce + cipher.encrypt(nonce, content, about)


def open_box(key: bytes, key_id: str, action: str, box: str) -> bytes:
    """What `Sealer.seal` was given; ValueError for anything else."""
    return _open(AESGCM(key), b64decode(box, validate=True), _about(key_id, action))


def _open(cipher: AESGCM, sealed: bytes, about: bytes) -> bytes:
    try:
        return cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], about)
    except InvalidTag:
        raise ValueError("sealed under another key, for something else, or altered since") from None


def _about(key_id: str, action: str) -> bytes:
    return f"{key_id}\n{action}".encode(errors="replace")
