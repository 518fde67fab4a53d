"""The fields of a head that the sidecar manages: found in one pass, cut out where they must not go on."""

import re
from collections.abc import Iterable
from itertools import chain, product

# Not passed on: hop-by-hop (RFC 9110 §7.6.1), and what the sidecar says itself.
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
REPLACED = frozenset(
    (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip")
)
READ = frozenset(
    (
        b"content-length",
        b"expect",
        b"host",
        b"http2-settings",
        b"idempotency-key",
        b"max-forwards",
        b"traceparent",
        b"x-request-id",
    )
)
PREFIXES = (b"x-forwarded-", b"x-fusebox-")  # all that begins so is taken off

NO_TOKENS: frozenset[bytes] = frozenset()
USUAL_TOKENS = frozenset((b"close", b"keep-alive", b"upgrade"))
KEPT, CUT, ALIAS, OWN = range(4)


def kinds(managed: Iterable[bytes], removed: Iterable[bytes]) -> dict[bytes, int]:
    """What to do with a managed field, by every spelling of its name; the sidecar's own are not listed."""
    found = {}
    for name in managed:
        for spelling in _spellings(name):
            found[spelling] = ALIAS
        found[name] = CUT if name in removed else KEPT
    return found


def _spellings(name: bytes) -> Iterable[bytes]:
    parts = name.split(b"-")
    for joints in product((b"-", b"_"), repeat=len(parts) - 1):
        yield b"".join(chain.from_iterable(zip(parts, (*joints, b""), strict=True)))


def scanner(names: Iterable[bytes]) -> "re.Pattern[bytes]":
    """Finds the managed fields of a head, in every spelling (case, `_` for `-`).

    Character classes instead of a flag, and branches by first letter, keep the search literal:
    it jumps from CRLF to CRLF and looks at one byte of a field it does not want.
    """
    by_letter: dict[int, list[bytes]] = {}
    listed = {name for name in names if not name.startswith(PREFIXES)}
    for name in sorted({*listed, *PREFIXES}):
        by_letter.setdefault(name[0], []).append(_any_case(name[1:]))
    branches = (
        _any_case(bytes((letter,))) + b"(?:" + b"|".join(rest) + b")" for letter, rest in by_letter.items()
    )
    return re.compile(rb"\r\n(" + b"|".join(branches) + rb"):[ \t]*([^\r]*[^\r \t]|)")


def _any_case(name: bytes) -> bytes:
    """A pattern for `name` in every spelling; a prefix stands for all that begins with it."""
    pattern = b"".join(
        b"[-_]" if char == b"-" else b"[%b%b]" % (char, char.upper()) if char.isalpha() else re.escape(char)
        for char in (name[i : i + 1] for i in range(len(name)))
    )
    return pattern + rb"[^:\r]*" if name.endswith(b"-") else pattern


def without(head: bytes, names: Iterable[bytes]) -> bytes:
    """`head` without the fields of these names, whatever their case."""
    for name in names:
        at = head.find(b"\r\n%b:" % name)
        if at < 0:  # cut already, or spelled otherwise
            head = re.sub(rb"(?i)\r\n" + re.escape(name) + rb":[^\r]*", b"", head)
            continue
        while at >= 0:
            head = head[:at] + head[head.index(b"\r\n", at + 2) :]
            at = head.find(b"\r\n%b:" % name)
    return head


_known_tokens: dict[bytes, frozenset[bytes]] = {}


def list_members(value: bytes) -> frozenset[bytes]:
    """The lower-case members of a list, remembered: there are few that occur."""
    found = _known_tokens.get(value)
    if found is None:
        found = frozenset(token.strip(b" \t") for token in value.lower().split(b",")) - {b""}
        if len(_known_tokens) < 256 and len(value) < 64:
            _known_tokens[value] = found
    return found


class Quiet:
    """A receiver without callbacks: llhttp validates, nobody is told."""
