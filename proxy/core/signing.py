"""Tokens that come back from outside: only what this installation has said itself is believed.

A token is `base64url(version | payload | HMAC-SHA256)` without padding. The MAC covers what the token is for,
so that one kind never passes for another, whatever its payload.
"""

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import NamedTuple

KEY_BYTES = 32
_MAC_BYTES = 32

_ALPHABET = re.compile(rb"[A-Za-z0-9_-]+").fullmatch


class Kind(NamedTuple):
    """What tokens are for."""

    name: bytes
    version: int  # 0…255: of the payload's form
    most: int  # characters of a token

    def _mac(self, key: bytes, signed: bytes) -> bytes:
        return hmac.digest(key, b"fusebox %b\0%b" % (self.name, signed), sha256)

    def sign(self, key: bytes, payload: bytes) -> str:
        """The token. `key` has 32 bytes."""
        signed = bytes((self.version,)) + payload
        return urlsafe_b64encode(signed + self._mac(key, signed)).rstrip(b"=").decode()

    def open(self, key: bytes, token: bytes) -> bytes:
        """The payload; `BadToken` says what is wrong, which whoever sent the token may read."""
        if len(token) > self.most:
            raise BadToken(f"is longer than {self.most} characters")
        if not _ALPHABET(token) or len(token) % 4 == 1:
            raise BadToken("is not base64url")
        whole = urlsafe_b64decode(token + b"=" * (-len(token) % 4))
        if urlsafe_b64encode(whole).rstrip(b"=") != token:  # bits that mean nothing would make a second token
            raise BadToken("is not base64url")
        signed, mac = whole[:-_MAC_BYTES], whole[-_MAC_BYTES:]
        if not signed or not hmac.compare_digest(mac, self._mac(key, signed)):
            raise BadToken("does not bear this sidecar's signature")
        if signed[0] != self.version:
            raise BadToken("was made by another version")
        return signed[1:]


class BadToken(ValueError):
    """It was not made here, or not for this."""


def key_from(secret: str) -> bytes:
    """The key that a secret stands for."""
    return sha256(b"fusebox signing key\0" + secret.encode()).digest()
