"""JSON Web Tokens of another issuer as principals, by RFC 8725.

What a token says of itself is never believed: algorithms are those in settings, keys those that the issuer
publishes; `jku`, `x5u`, `jwk` and whatever else a head brings along are ignored.
"""

from collections.abc import Mapping
from typing import Any

import jwt

from proxy.admin.issuer_keys import IssuerKeys, KeysUnavailable
from proxy.core.roles import Cause, Principal, Rejected, Role
from proxy.settings.model import Oidc

TOKEN_BYTES = 6 * 1024
"""Longer tokens are not looked at."""
NAME_CHARACTERS = 200
PREFIX = "oidc:"
"""Of the names of principals, so that none is taken for a token of our own."""
TYPES = {"jwt", "at+jwt", "application/at+jwt"}
"""RFC 8725, 3.11 and RFC 9068, 4: a token made for something else, such as a logout, opens nothing."""
CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "ES256K": "secp256k1"}


class _Invalid(Exception):
    """Why a token does not stand up."""


class OidcIssuer:
    """Verifies tokens of the issuer in [oidc]."""

    def __init__(self, settings: Oidc, keys: IssuerKeys) -> None:
        self._settings = settings
        self._keys = keys

    async def verify(self, token: str) -> Principal | Rejected:
        """Whom it stands for; Rejected says why not."""
        try:
            claims = await self._claims(token)
            name = self._name(claims)
        except (_Invalid, KeysUnavailable, jwt.PyJWTError) as error:
            return Rejected(cause=Cause.INVALID, detail=str(error)[:NAME_CHARACTERS] or type(error).__name__)
        role = self._role(claims)
        if role is None:
            return Rejected(cause=Cause.NO_ROLE, name=name)
        return Principal(name=name, role=role)

    async def _claims(self, token: str) -> Mapping[str, Any]:
        if len(token) > TOKEN_BYTES:
            raise _Invalid(f"a token of more than {TOKEN_BYTES} bytes")
        head = jwt.get_unverified_header(token)
        algorithm = head.get("alg")
        if algorithm not in self._settings.algorithms:
            raise _Invalid(f"algorithm {algorithm!r} is not one of those in settings")
        if "typ" in head and str(head["typ"]).lower() not in TYPES:
            raise _Invalid(f"a token of type {head['typ']!r}")
        key_id = head.get("kid")
        key = await self._keys.find(key_id)
        if key is None:
            raise _Invalid(f"no key {key_id!r}" if key_id else "there are several keys, and it names none")
        _fit(key, algorithm)
        return jwt.decode(
            token,
            key.key,
            algorithms=[algorithm],
            audience=self._settings.audience,
            issuer=self._settings.issuer,
            leeway=self._settings.leeway_s,
            options={"require": ["exp", "iss", "aud"], "enforce_minimum_key_length": True},
        )

    def _name(self, claims: Mapping[str, Any]) -> str:
        name = claims.get(self._settings.name_claim)
        if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARACTERS or not name.isprintable():
            raise _Invalid(f"no usable name in the claim {self._settings.name_claim!r}")
        return PREFIX + name

    def _role(self, claims: Mapping[str, Any]) -> Role | None:
        """The highest that any of the groups maps to."""
        groups = _claim(claims, self._settings.role_claim)
        if isinstance(groups, str):
            groups = groups.split()
        if not isinstance(groups, list):
            return None
        mapped = self._settings.roles
        roles = [Role.named(mapped[it]) for it in groups if isinstance(it, str) and it in mapped]
        return max(roles, default=None)


def _fit(key: jwt.PyJWK, algorithm: str) -> None:
    """RFC 8725, 3.1: a key is used with the algorithm it was made for, and no other."""
    said = key._jwk_data  # noqa: SLF001 - the library shows `kty`, but neither `alg` nor `crv`
    kind = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}.get(algorithm[:2])
    if key.key_type != kind or said.get("alg", algorithm) != algorithm:
        raise _Invalid(f"key {key.key_id!r} is not for {algorithm}")
    if algorithm in CURVES and said.get("crv") != CURVES[algorithm]:
        raise _Invalid(f"key {key.key_id!r} is of another curve than {algorithm}")


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """By its whole name, or along its dots."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
