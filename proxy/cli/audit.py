"""The audit log from the command line.

Listing asks a running sidecar. The others use the store itself: they need no sidecar and do not disturb
one.
"""

import asyncio
import errno
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import IO, Any

import click
import orjson

from proxy.cli.audit_erase import erase as erased
from proxy.cli.audit_export import FORMATS, shown, write
from proxy.cli.client import Admin, remote
from proxy.cli.common import (
    HELP,
    config_option,
    faults,
    json_option,
    settings_faults,
    tell_json,
    tell_table,
    to_second,
)
from proxy.clock import rfc3339, wall
from proxy.control.audit_reading import moment
from proxy.control.audit_report import Report
from proxy.control.audit_verify import verify as verified
from proxy.core.audit import Entry, Outcome, spooled
from proxy.core.checkpoint import Signer, Verifier, notes
from proxy.core.sealing import Sealer
from proxy.errors import FuseboxError
from proxy.ports.records import AuditFilter, Store
from proxy.settings import Settings, load
from proxy.storage import audit_keys
from proxy.storage.last_signed import LastSignedFile
from proxy.storage.new_file import appearing
from proxy.storage.spool import NO_LIMIT, SpoolFile
from proxy.storage.stores import open_store

_PAGE = 500  # the most that the API gives at once
_FILTERS = ("action", "actor", "target", "outcome", "since", "until", "subject")


@click.group(context_settings=HELP)
def audit() -> None:
    """Who did what: list, verify, export and erase in the audit log."""


class _Moment(click.ParamType[str]):
    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return moment(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_FILTER_KINDS: Mapping[str, click.ParamType[str]] = {
    "since": _Moment(),
    "until": _Moment(),
    "outcome": click.Choice([it.value for it in Outcome]),
}


def _filters(work: Callable[..., None]) -> Callable[..., None]:
    """Give a command the filters of the log; it is called with `wanted`, those that were given."""

    @wraps(work)
    def called(**options: Any) -> None:
        work(wanted={name: options.pop(name) or "" for name in _FILTERS}, **options)

    described = {
        "action": 'Like kill.on, or "breaker." for all that begin so.',
        "actor": "Who did it.",
        "target": "What it was done to.",
        "outcome": "How it ended.",
        "since": "From this time on, like 2026-01-31 or 2026-01-31T12:00:00Z.",
        "until": "Before this time.",
        "subject": "The person concerned; needs the right to open sealed fields.",
    }
    for name in reversed(_FILTERS):
        kind = _FILTER_KINDS.get(name)
        called = click.option(f"--{name}", type=kind, metavar=None if kind else "TEXT", help=described[name])(
            called
        )
    return called


@audit.command("list")
@_filters
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000), metavar="N")
@remote
def list_(api: Admin, wanted: Mapping[str, str], limit: int, *, as_json: bool) -> None:
    """Show entries, the newest first, from a running sidecar.

    Personal fields are shown to commanders and admins.
    """
    found: list[dict[str, Any]] = []
    cursor = ""
    while len(found) < limit:
        page = {"limit": str(min(limit - len(found), _PAGE)), "cursor": cursor}
        answer = api.call("GET", "/v1/audit", query={**wanted, **page})
        found += answer["entries"]
        cursor = answer["next"] or ""
        if not cursor:
            break
    if as_json:
        tell_json({"entries": found, "next": cursor or None})
        return
    head = ("SEQ", "AT", "ACTION", "OUTCOME", "ACTOR", "TARGET", "REASON")
    tell_table(head, (tuple(map(_plain, _line(entry))) for entry in found))
    if cursor:
        click.echo(f"there are more: --limit {2 * limit}, or filters", err=True)


@audit.command("key")
@config_option
@json_option
def key(config: Path, *, as_json: bool) -> None:
    """Print the public key that judges checkpoints.

    Keep the line where nobody can change it who can change this machine, and give it to verify with --key.
    """
    with faults():
        settings = _settings(config)
        verifier = _signer(settings).verifier
    if as_json:
        tell_json({"key": verifier.vkey})
    else:
        click.echo(verifier.vkey)


@audit.command()
@click.option(
    "--checkpoint", "files", multiple=True, type=click.File(encoding="utf-8"), metavar="FILE",
    help="Checkpoints kept elsewhere, one or many in a file. Only they show a tail that was cut with care.",
)  # fmt: skip
@click.option(
    "--key", "keys", multiple=True, metavar="KEY",
    help="A public key, or a file of them, instead of that in audit.key.",
)  # fmt: skip
@config_option
@json_option
def verify(files: tuple[IO[str], ...], keys: tuple[str, ...], config: Path, *, as_json: bool) -> None:
    """Compute the whole log again and tell everything that is wrong with it.

    Reads the store itself, beside a running sidecar or without one. Exit 1 when anything is found.
    """
    external = [(file.name, note) for file in files for note in _notes(file)]
    with faults():
        settings = _settings(config)
        verifiers = [it for text in keys for it in _verifiers(text)] or [_signer(settings).verifier]
        # read before the store, which may only be further then
        last = LastSignedFile(settings.last_signed_file)
        if note := last.read():
            external.append((last.name, note))
        sealer = _sealer(settings) if settings.audit_key_file.exists() else None
        with closing(_store(settings)) as store:
            report = store.read(lambda it: verified(it.audit, verifiers, external, sealer))
    if as_json:
        tell_json(report.values() | {"given": len(external)})
    else:
        _tell(report, len(external))
    if not report.ok:
        raise click.exceptions.Exit(1)


@audit.command()
@_filters
@click.option("--format", "form", type=click.Choice(FORMATS), default="jsonl", show_default=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="A file that is not there yet.  [default: stdout]",
)  # fmt: skip
@click.option("--open", "opened", is_flag=True, help="Open sealed fields; needs audit.key.")
@click.option("--reason", default="", help="Why; recorded with the export.")
@config_option
@json_option
def export(
    wanted: Mapping[str, str],
    form: str,
    output: Path | None,
    reason: str,
    config: Path,
    *,
    opened: bool,
    as_json: bool,
) -> None:
    """Write entries in order, as JSON lines or CSV, from the store itself.

    The export is an entry of the log, too. How much it was is told on stderr.
    """
    if wanted["subject"] and not opened:
        raise click.UsageError("--subject finds what is sealed: say --open as well")
    with faults():
        settings = _settings(config)
        sealer = _sealer(settings) if opened else None
        said = Entry(
            action="audit.export",
            outcome=Outcome.ACCEPTED,
            at=rfc3339(wall()),
            actor="cli",
            address=f"local, uid {os.getuid()}",
            target=str(output or "stdout"),
            # who is looked for is a personal field, and this entry is not sealed
            after={name: value for name, value in wanted.items() if value and name != "subject"}
            | {"format": form, "open": opened, "subject": bool(wanted["subject"])},
            reason=reason,
        )
        with closing(_store(settings)) as store, _recorded(settings, said):
            asked = AuditFilter(**{name: value for name, value in wanted.items() if name != "subject"})
            if sealer and (subject := wanted["subject"]):
                asked = replace(asked, key_id=_key_id(store, sealer, subject))
            with _opened(output) as file:
                count = write(file, form, shown(store, asked, sealer))
    summary = {"entries": count, "format": form, "output": said.target}
    text = f"{count} entries written to {said.target}"
    click.echo(orjson.dumps(summary).decode() if as_json else text, err=True)


@audit.command()
@click.option("--subject", required=True, metavar="ID", help="The person, as the entries name them.")
@click.option("--reason", required=True, help="Why, without naming the person: it stays readable.")
@config_option
@json_option
def erase(subject: str, reason: str, config: Path, *, as_json: bool) -> None:
    """Make what is sealed about a person unreadable, for ever.

    Their key is deleted from the store, beside a running sidecar or without one; the entries stay, so the
    log still verifies. Backups made before hold the key. Exit 1 when nothing was sealed: a name that was
    mistyped must not look like one that is forgotten.
    """
    for name, value in (("--subject", subject), ("--reason", reason)):
        if not value.strip():
            raise click.UsageError(f"{name} should not be empty")
    with faults():
        settings = _settings(config)
        sealer = _sealer(settings)
        with closing(_store(settings)) as store:
            found = asyncio.run(erased(settings, store, sealer, subject, reason))
    if as_json:
        tell_json({"erased": found})
    if not found:
        raise click.ClickException(
            "nothing is sealed about this subject, or it was erased before; that it was asked for is recorded"
        )
    if not as_json:
        click.echo("erased: nobody can read any more what was sealed about this subject")
        click.echo("backups of the store made before still hold the key", err=True)


# -- what they are made of --------------------------------------------------------------------------------


def _settings(config: Path) -> Settings:
    with settings_faults():
        return load(config, os.environ)


def _store(settings: Settings) -> Store:
    if settings.storage.url.startswith("memory:"):
        raise FuseboxError("a memory store is in the sidecar alone: ask it with GET /v1/audit")
    return open_store(settings.storage.url, settings.file.parent, existing=True)


def _keys(settings: Settings) -> audit_keys.AuditKeys:
    path = settings.audit_key_file
    if not path.exists():
        raise FuseboxError(
            f"{path}: not there. The first  fusebox serve  makes it; a log is verified without it by --key"
        )
    return audit_keys.load(path)


def _signer(settings: Settings) -> Signer:
    return Signer(settings.audit.origin, _keys(settings).signing)


def _sealer(settings: Settings) -> Sealer:
    return Sealer(_keys(settings).master, os.urandom)


def _verifiers(text: str) -> list[Verifier]:
    """From a verifier key, or a file of them, one on each line."""
    lines = [text]
    if not text.count("+") or Path(text).exists():
        try:
            lines = [line for line in Path(text).read_text("utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise FuseboxError(f"--key {text}: neither a key nor a file that can be read: {error}") from error
    try:
        found = list(map(Verifier.from_vkey, lines))
    except ValueError as error:
        raise FuseboxError(f"--key {text}: {error}: fusebox audit key prints it") from error
    if not found:
        raise FuseboxError(f"--key {text}: no key in it")
    return found


def _notes(file: IO[str]) -> list[str]:
    try:
        found = notes(file.read())
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{file.name}: cannot be read: {error}") from error
    if not found:
        raise click.ClickException(f"{file.name}: no checkpoint in it")
    return found


def _key_id(store: Store, sealer: Sealer, subject: str) -> str:
    found = store.read(lambda it: it.audit.key_by_tag(sealer.tag(subject)))
    if found is None:
        raise FuseboxError("nothing in the log concerns this subject, or it was erased")
    return found.key_id


@contextmanager
def _recorded(settings: Settings, said: Entry) -> Iterator[None]:
    """Have it in the spool before it happens, and that it failed when it does."""
    with closing(SpoolFile(settings.spool_directory, limit=NO_LIMIT)) as spool:
        spool.add(spooled(said), sync=True)
        try:
            yield
        except BaseException as error:
            failed = replace(said, outcome=Outcome.FAILED, reason=str(error) or type(error).__name__)
            with suppress(FuseboxError):  # the first failure is the one to tell
                spool.add(spooled(failed), sync=True)
            raise


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        if sys.stdout is None:  # `>&-`
            raise FuseboxError(f"stdout is closed: {os.strerror(errno.EBADF)}")
        yield sys.stdout
        return
    with appearing(output) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        yield file


def _line(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    state = next((f"({name})" for name in ("sealed", "erased", "damaged") if entry.get(name)), "")
    names = ("actor", "target", "reason")
    shown = [entry.get(name) or (state if name == "actor" else "") for name in names]
    return entry["seq"], to_second(entry["at"]), entry["action"], entry.get("outcome", ""), *shown


def _plain(value: Any) -> Any:
    """One line, and nothing that moves a terminal's cursor."""
    if not isinstance(value, str):
        return value
    return "".join(it if it.isprintable() else "?" for it in " ".join(value.split()))


def _tell(report: Report, given: int) -> None:
    for finding in report.findings:
        click.echo(_plain(str(finding)))
    if report.more:
        click.echo(f"and {report.more} more findings")
    parts = [f"{report.entries} entries read, root {report.root}", f"{report.checkpoints} checkpoints hold"]
    if given:
        parts.append(f"{report.external} of {given} kept elsewhere hold")
    if report.dropped:
        parts.append(f"{report.dropped} entries dropped by retention")
    if report.erased:
        parts.append(f"{report.erased} entries erased")
    click.echo(f"{'ok' if report.ok else 'NOT ok'}: {', '.join(parts)}")
    if report.signed < report.size:
        click.echo(f"the last {report.size - report.signed} entries are under no checkpoint yet", err=True)
    if not given:
        click.echo(
            "with --checkpoint FILE, kept elsewhere, a tail cut with care would show as well", err=True
        )
