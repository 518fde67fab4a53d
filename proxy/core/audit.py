"""The audit entry: what happened, who did it, to what, and how it is written down.

An `Entry` is what a service wants recorded. The log gives it a number and seals its private fields under
the key of its subject; `document` is the canonical form of that, the bytes that the Merkle tree is made
over, and `Row` is how a store keeps it. Everything in a row besides `entry` is there to be searched and
can be derived from `entry` again: `row` does, and verifying compares.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

import orjson

from proxy.core.merkle import leaf_hash

Scalar = str | int | float | bool | None

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}(Z|\+00:00)")

COLUMN = 256
"""Characters of a field that its column holds; the whole of it is in the entry."""


class Outcome(StrEnum):
    """How it went, as far as the writer can know when it writes."""

    ACCEPTED = "accepted"  # an admin change: written before its effect; a `failed` entry follows if it failed
    REFUSED = "refused"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"  # sent, and the answer was lost (design rule 4)


PRIVATE = ("actor", "subject", "target", "before", "after", "reason", "address")
"""Fields that may be sealed. The rest is needed to search the log and tells nothing about a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that happened. Empty text means: does not apply.

    `private` names fields, all in `PRIVATE`, that are sealed under the key of `subject`, so that erasing
    the subject makes them unreadable and leaves the tree whole. Without a subject nothing can be private.
    """

    action: str  # dotted: "kill.on", "breaker.open", "token.create", "user.login"
    outcome: Outcome
    at: str  # RFC 3339, UTC, microseconds: the wall clock when it happened, a label only (design rule 8)
    actor: str = (
        ""  # token, OIDC subject or user; "fusebox" for the sidecar itself, "cli" for a local command
    )
    role: str = ""
    subject: str = ""  # the person it concerns
    target: str = ""  # the thing it concerns: a breaker, a token, an account's plan
    before: Mapping[str, Scalar] | None = None
    after: Mapping[str, Scalar] | None = None
    reason: str = ""
    address: str = ""  # where it was asked from
    request_id: str = ""
    instance: str = ""  # which sidecar wrote it
    status: int = 0  # of the answer, for actions on the wire
    sample: float = 1.0  # the share of such actions that is recorded
    of: int | None = None  # number of the entry this one adds to
    private: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.action:
            raise ValueError("an entry without an action")
        if _TIME.fullmatch(self.at) is None:
            raise ValueError(f"at should be as proxy.clock.rfc3339 writes it, not {self.at[:40]!r}")
        if self.private and not self.subject:
            raise ValueError("private fields need a subject, under whose key they are sealed")
        if unknown := set(self.private) - set(PRIVATE):
            raise ValueError(f"cannot be private: {', '.join(sorted(unknown))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An entry in a store. `leaf` is its RFC 6962 leaf hash; `key_id` is empty when nothing is sealed."""

    seq: int  # from 0, without gaps
    entry: bytes
    leaf: bytes
    at: str
    action: str
    outcome: str
    actor: str
    target: str
    request_id: str
    key_id: str


def document(entry: Entry, seq: int, *, key_id: str = "", box: str = "") -> bytes:
    """The canonical bytes: JSON, keys sorted, no spaces, nothing that is empty.

    `key_id` and `box` (base64) stand for the fields in `entry.private`, which are then left out.
    """
    values: dict[str, Any] = {
        "seq": seq,
        "at": entry.at,
        "action": entry.action,
        "outcome": entry.outcome.value,
    }
    for name in ("actor", "role", "subject", "target", "reason", "address", "request_id", "instance"):
        if value := getattr(entry, name):
            values[name] = value
    for name in ("before", "after"):
        if (mapping := getattr(entry, name)) is not None:
            values[name] = dict(mapping)
    if entry.status:
        values["status"] = entry.status
    if entry.sample != 1.0:
        values["sample"] = entry.sample
    if entry.of is not None:
        values["of"] = entry.of
    if key_id:
        for name in entry.private:
            values.pop(name, None)
        values["sealed"] = {"key": key_id, "box": box}
    return canonical(values)


def canonical(values: Mapping[str, Any]) -> bytes:
    """JSON, keys sorted, no spaces. What JSON or UTF-8 cannot hold is replaced, not refused: NaN by null."""
    try:
        return orjson.dumps(values, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # also a Mapping that is no dict
        return orjson.dumps(_plain(values), option=orjson.OPT_SORT_KEYS)


def _plain(value: Any) -> Any:
    """Half surrogate pairs become `?`, integers beyond 64 bits text, anything unknown its `str`."""
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(it) for key, it in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(it) for it in value]
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and value.bit_length() < 63:
        return value
    return str(value).encode(errors="replace").decode()


def private_fields(entry: Entry) -> bytes:
    """What goes into the box: canonical JSON of the private fields that are not empty."""
    values = {name: getattr(entry, name) for name in entry.private if getattr(entry, name)}
    return canonical({name: dict(it) if isinstance(it, Mapping) else it for name, it in values.items()})


def spooled(entry: Entry) -> bytes:
    """An entry as it waits in the spool: JSON, not sealed yet. `parse` reads it."""
    values = {name: getattr(entry, name) for name in _NAMES}
    return canonical({name: it for name, it in values.items() if it not in _EMPTY})


def parse(data: bytes) -> Entry:
    """The entry that `spooled` wrote; ValueError says what is wrong with anything else."""
    values = orjson.loads(data)
    if not isinstance(values, dict):
        raise ValueError("not an object")  # noqa: TRY004 - bad bytes, whatever they hold
    for name, value in values.items():
        if (fits := _FITS.get(name)) is None or not fits(value):
            raise ValueError(f"field {name!r} is unknown or of the wrong kind")
    try:
        values["outcome"] = Outcome(values["outcome"])
        values["private"] = tuple(values.get("private", ()))
        return Entry(**values)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an entry: {error}") from error


_NAMES = tuple(field.name for field in fields(Entry))
_EMPTY = (None, "", ())


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _scalars(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(it, Scalar | None) for it in value.values())


_FITS: Mapping[str, Callable[[Any], bool]] = dict.fromkeys(
    ("action", "outcome", "at", "actor", "role", "subject", "target", "reason", "address", "request_id",
     "instance"), _text,
) | {
    "before": _scalars,
    "after": _scalars,
    "status": _number,
    "of": _number,
    "sample": lambda value: isinstance(value, int | float),
    "private": lambda value: isinstance(value, list) and all(map(_text, value)),
}  # fmt: skip


def row(entry: bytes) -> Row:
    """The row that a store keeps for canonical bytes; ValueError when they are not such bytes."""
    values = orjson.loads(entry)
    if not isinstance(values, dict) or canonical(values) != entry:
        raise ValueError("not in canonical form")
    try:
        seq, key_id = values["seq"], values.get("sealed", {}).get("key", "")
        texts = [column(values[name]) for name in _NEEDED]
        texts += [column(values.get(name, "")) for name in _FOUND_BY]
    except (KeyError, AttributeError) as error:
        raise ValueError(f"not an entry: {error!r}") from error
    if not _number(seq) or not _text(key_id):
        raise ValueError("not an entry: seq or key of the wrong kind")
    at, action, outcome, actor, target, request_id = texts
    return Row(
        seq=seq,
        entry=entry,
        leaf=leaf_hash(entry),
        at=at,
        action=action,
        outcome=outcome,
        actor=actor,
        target=target,
        request_id=request_id,
        key_id=key_id,
    )


_NEEDED = ("at", "action", "outcome")
_FOUND_BY = ("actor", "target", "request_id")


def column(text: str) -> str:
    """A field as its column holds it: cut for the index, and without NUL, which PostgreSQL refuses."""
    return text.replace("\0", "\ufffd")[:COLUMN]
