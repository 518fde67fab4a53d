"""The public keys of a token issuer: fetched, remembered, fetched again when one is not known.

Nobody can make the sidecar fetch more than once in `RETRY_S` seconds. While the issuer is gone, the keys it
gave out last go on to count for `KEPT_S` seconds.
"""

import asyncio
import logging
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import jwt
import orjson

from proxy.clock import Clock, monotonic
from proxy.errors import FuseboxError
from proxy.tasks import spawn

_log = logging.getLogger("fusebox.oidc")

DEADLINE_S = 5.0
"""For one document, from connecting to its last byte."""
DOCUMENT_BYTES = 256 * 1024
RETRY_S = 30.0
"""Seconds between two attempts to fetch, whoever asks for what."""
FRESH_S = 600.0
"""Age in seconds at which keys are fetched anew, behind the requests."""
KEPT_S = 24 * 3600.0
"""Age in seconds at which they count no more."""


class KeysUnavailable(FuseboxError):
    """The issuer's keys cannot be had; the text says why."""


class IssuerKeys:
    """Keys by id. `jwks_url` empty: where the issuer's discovery document says."""

    def __init__(self, issuer: str, jwks_url: str, *, clock: Clock = monotonic) -> None:
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._clock = clock
        self._keys: tuple[jwt.PyJWK, ...] = ()
        self._fetched: float | None = None
        self._tried: float | None = None
        self._trying: asyncio.Task[None] | None = None
        self._trouble = ""

    async def find(self, key_id: str | None) -> jwt.PyJWK | None:
        """The key of this id, or without one the only key there is; KeysUnavailable when there are none."""
        if self._age() >= KEPT_S:
            self._keys = ()
        found = self._known(key_id)
        if found is None:
            await self._fetch()
            found = self._known(key_id)
        elif self._age() >= FRESH_S:
            self._begin()
        if not self._keys:
            raise KeysUnavailable(self._trouble or "the issuer has no key that can be used here")
        return found

    def _known(self, key_id: str | None) -> jwt.PyJWK | None:
        if key_id is None:
            return self._keys[0] if len(self._keys) == 1 else None
        return next((key for key in self._keys if key.key_id == key_id), None)

    def _age(self) -> float:
        return KEPT_S if self._fetched is None else self._clock() - self._fetched

    async def _fetch(self) -> None:
        """Return when a fetch is over: the one under way, a new one, or none when it is too soon."""
        if (task := self._begin()) is not None:
            await asyncio.wait([task])

    def _begin(self) -> asyncio.Task[None] | None:
        if self._trying is not None and not self._trying.done():
            return self._trying
        now = self._clock()
        if self._tried is not None and now - self._tried < RETRY_S:
            return None
        self._tried = now
        self._trying = spawn(self._try(), "keys of the token issuer")
        return self._trying

    async def _try(self) -> None:
        try:
            self._keys = await self._read()
        except KeysUnavailable as error:
            self._trouble = str(error)
            _log.warning("keys of the token issuer: %s", error)
        else:
            self._fetched, self._trouble = self._clock(), ""

    async def _read(self) -> tuple[jwt.PyJWK, ...]:
        url = self._jwks_url
        if not url:
            place = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
            said = await _document(place)
            if said.get("issuer") != self._issuer:
                raise KeysUnavailable(f"{place} is of another issuer: {said.get('issuer')!r}"[:300])
            url = str(said.get("jwks_uri", ""))
        keys = (await _document(url)).get("keys")
        if not isinstance(keys, list):
            raise KeysUnavailable(f"{url} holds no list of keys")
        return tuple(key for key in map(_key, keys) if key is not None)


def _key(raw: Any) -> jwt.PyJWK | None:
    """A key for signatures; None for others, since issuers may publish what we do not know (RFC 7517, 5)."""
    if not isinstance(raw, dict) or raw.get("use", "sig") != "sig" or raw.get("kty") == "oct":
        return None
    try:
        return jwt.PyJWK(raw)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None


async def _document(url: str) -> dict[str, Any]:
    if not _trusted(url):
        raise KeysUnavailable(f"{url[:200]!r} is neither https nor on this machine")
    timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, allow_redirects=False, headers={"Accept": "application/json"}) as response,
        ):
            if response.status != 200:
                raise KeysUnavailable(f"{url} answered {response.status}")
            content = bytearray()
            async for chunk in response.content.iter_any():
                content += chunk
                if len(content) > DOCUMENT_BYTES:
                    raise KeysUnavailable(f"{url} is larger than {DOCUMENT_BYTES} bytes")
        said = orjson.loads(content)
    except TimeoutError as error:
        raise KeysUnavailable(f"{url} gave no answer in {DEADLINE_S:g} s") from error
    except (aiohttp.ClientError, ValueError) as error:
        raise KeysUnavailable(f"{url}: {error}") from error
    if not isinstance(said, dict):
        raise KeysUnavailable(f"{url} holds no JSON object")
    return said


def _trusted(url: str) -> bool:
    """What comes from there decides who may do what, so nobody on the way may change it."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        near = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        near = False
    return url.startswith("https://") or (near and url.startswith("http://"))
