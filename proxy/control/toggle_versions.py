"""Versions of the toggles: their numbers, and the forms in which they are held and kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import orjson

from proxy.core.toggle_changes import Return
from proxy.core.toggle_values import Damaged, Document, difference, laid, placed, read, told, written
from proxy.ports.records import ToggleVersion

Kind = Literal["file", "patch", "baseline", "revert", "flags", "kill", "reload", "expired", "kept"]
"""How a version came about. `file`: the settings' at the first start. `kept`: what holds goes on
under a new number, since the store has another version than it should; the reason says which."""


class Numbers:
    """Where versions get their numbers: each is higher than any before it, in this process and the last."""

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def next(self) -> int:
        self.last += 1
        return self.last

    def beyond(self, number: int) -> None:
        """From now on higher than this."""
        self.last = max(self.last, number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A version as whoever decides holds it. `at` and `expires_at` are RFC 3339."""

    version: int
    at: str
    actor: str
    reason: str
    kind: Kind
    document: Document
    returns: tuple[Return, ...] = ()
    expires_at: str = ""
    diff: Mapping[str, Any] = field(default_factory=dict)

    @property
    def metadata(self) -> dict[str, Any]:
        """As it stands in the document."""
        return {
            "version": self.version,
            "environment": self.document.environment,
            "updated_by": self.actor,
            "updated_at": self.at,
            "reason": self.reason,
        }


def following(before: Held, **what: Any) -> Held:
    """The version after `before`, with what is different in it."""
    document = what.get("document", before.document)
    returns = what.pop("returns", before.returns)
    reason = what.pop("reason").replace("\x00", "\ufffd")  # PostgreSQL's text holds no NUL
    diff = told(difference(before.document, document))
    return Held(**{"document": document, "returns": returns, "reason": reason, "diff": diff, **what})


def row(held: Held) -> ToggleVersion:
    """As the store keeps it."""
    returns = [
        {"version": it.version, "at": it.at, "ttl_s": it.ttl_s, "before": laid(it.before)}
        for it in held.returns
    ]
    return ToggleVersion(
        version=held.version,
        at=held.at,
        actor=held.actor,
        reason=held.reason,
        kind=held.kind,
        expires_at=held.expires_at,
        diff=orjson.dumps(held.diff, option=orjson.OPT_SORT_KEYS),
        document=written(held.document, held.metadata),
        returns=orjson.dumps(returns, option=orjson.OPT_SORT_KEYS),
    )


def held(kept: ToggleVersion) -> Held:
    """Damaged when it cannot be understood."""
    try:
        returns = tuple(
            Return(
                version=int(it["version"]),
                at=str(it["at"]),
                ttl_s=float(it["ttl_s"]),
                before=placed(it["before"]),
            )
            for it in orjson.loads(kept.returns)
        )
        return Held(
            version=kept.version,
            at=kept.at,
            actor=kept.actor,
            reason=kept.reason,
            kind=kept.kind,  # type: ignore[arg-type]  # as it was written
            expires_at=kept.expires_at,
            document=read(kept.document),
            returns=returns,
            diff=orjson.loads(kept.diff),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise Damaged(f"version {kept.version}: {error}") from error


class Memory(NamedTuple):
    """What the last good file holds."""

    versions: Sequence[Held]
    """The one in force, after those before it that the store lacks."""
    file: str
    """What the settings said at the last load, as `control.toggles` compares it."""
    given_up: tuple[int, ...] = ()
    """Versions that were refused, and that the store may have all the same."""
    promised: int = 0
    """Up to here numbers may have been shown: a start after a crash goes on above."""


_LINE = ("version", "at", "actor", "reason", "kind", "expires_at")
_JSON = ("diff", "document", "returns")


def memorised(
    versions: Sequence[ToggleVersion], file: str, given_up: Sequence[int] = (), promised: int = 0
) -> bytes:
    """What `remembered` makes a Memory of."""
    rows = [
        {name: getattr(it, name) for name in _LINE}
        | {name: orjson.Fragment(getattr(it, name)) for name in _JSON}
        for it in versions
    ]
    said = {"versions": rows, "file": file, "given_up": given_up, "promised": promised}
    return orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE)


def remembered(content: bytes) -> Memory:
    """Damaged when it is not what `memorised` made."""
    try:
        raw = orjson.loads(content)
        versions = [held(_kept(it)) for it in raw["versions"]]
        given_up = tuple(map(int, raw["given_up"]))
        return Memory([*versions[:-1], versions[-1]], str(raw["file"]), given_up, int(raw.get("promised", 0)))
    except (ValueError, TypeError, LookupError) as error:
        raise Damaged(str(error) or type(error).__name__) from error


def _kept(raw: Mapping[str, Any]) -> ToggleVersion:
    fields: dict[str, Any] = {name: raw[name] for name in _LINE}
    fields |= {name: orjson.dumps(raw[name], option=orjson.OPT_SORT_KEYS) for name in _JSON}
    return ToggleVersion(**fields)
