"""A change of toggles or flags: made for the version that was looked at, and shown by what it did."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, overload

import click

from proxy.cli.client import Admin, remote
from proxy.cli.common import Duration, tell_json, tell_table
from proxy.cli.toggle_words import held_words, returns, shown_at

_Command = Callable[..., None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changing:
    """What all such commands were given."""

    api: Admin
    reason: str
    ttl: float | None
    if_match: int | None
    as_json: bool

    def make(self, method: str, path: str, body: dict[str, Any]) -> None:
        """Ask for it, and tell what became of it."""
        if not self.reason.strip():
            raise click.UsageError('say why: --reason "…"')
        before = self.api.call("GET", "/v1/toggles")
        asked = body | {"reason": self.reason} | ({} if self.ttl is None else {"ttl_s": int(self.ttl)})
        version = before["version"] if self.if_match is None else self.if_match
        after = self.api.call(method, path, asked, version=version)
        if self.as_json:
            tell_json(after)
        else:
            changed = _tell(before, after)
            if not {"exposure_percent", "rules"}.isdisjoint(changed):  # who was let in may not be in yet
                for held in self.api.call("GET", "/v1/status").get("held", ()):
                    click.echo(held_words(held))


def _tell(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Say what changed; it is named."""
    back = returns(after)
    rows = [
        (name, shown_at(name, was), shown_at(name, now), back.get(name))
        for name, now in _places(after).items()
        if (was := _places(before).get(name)) != now
    ]
    if not rows:
        click.echo(f"all was so already (version {after['version']})")
        return []
    click.echo(f"version {after['version']}, after {before['version']}")
    tell_table(("CHANGED", "BEFORE", "NOW", "RETURNS"), rows)
    return [name for name, *_ in rows]


def _places(document: dict[str, Any]) -> dict[str, Any]:
    """All that can change, by its name in the history."""
    flags = {f"flags.{name}": on for name, on in document.get("flags", {}).items()}
    rules = {"rules": document["rules"]} if "rules" in document else {}
    return {**document.get("toggles", {}), **rules, **flags}


_REASON = click.option("--reason", required=True, help="Why.")
_TTL = click.option(
    "--ttl",
    type=Duration(),
    metavar="TIME",
    help="Returns by itself after so long, like 10m or 2h.  [default: it stays]",
)
_IF_MATCH = click.option(
    "--if-match",
    type=click.IntRange(min=1),
    metavar="VERSION",
    help="Only while this is the version in force.  [default: the one there is now]",
)


@overload
def changing(work: _Command) -> _Command: ...
@overload
def changing(*, ttl: bool) -> Callable[[_Command], _Command]: ...
def changing(work: _Command | None = None, *, ttl: bool = True) -> _Command | Callable[[_Command], _Command]:
    """Give a command the options of every change; it is called with `change`."""
    if work is None:
        return lambda work: _with_options(work, ttl=ttl)
    return _with_options(work, ttl=ttl)


def _with_options(work: _Command, *, ttl: bool) -> _Command:
    @wraps(work)
    def called(*, api: Admin, reason: str, if_match: int | None, as_json: bool, **rest: Any) -> None:
        limit = rest.pop("ttl", None)
        work(change=Changing(api=api, reason=reason, ttl=limit, if_match=if_match, as_json=as_json), **rest)

    command = remote(called)
    for option in (_IF_MATCH, *([_TTL] if ttl else []), _REASON):
        command = option(command)
    return command
