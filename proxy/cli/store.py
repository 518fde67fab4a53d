"""The store as a whole: saved, loaded again, looked over. No running sidecar is needed."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import click

from proxy.cli.common import HELP, config_option, faults, json_option, settings_faults, tell_json
from proxy.clock import rfc3339, wall
from proxy.core.audit import Entry, Outcome, spooled
from proxy.errors import FuseboxError
from proxy.ports.records import Store
from proxy.settings import state_directory, storage
from proxy.storage.last_signed import LastSignedFile
from proxy.storage.restore import restore as load
from proxy.storage.spool import NO_LIMIT, SpoolFile
from proxy.storage.stores import open_store, parsed


@click.group(context_settings=HELP)
def store() -> None:
    """Save the store, load it again, look it over.

    It is the one that storage.url of the settings names.
    """


_file = click.Path(path_type=Path, dir_okay=False)


@store.command()
@click.argument("file", type=_file)
@config_option
@json_option
def backup(file: Path, config: Path, *, as_json: bool) -> None:
    """Write everything into the new FILE, also beside a running sidecar.

    It is a SQLite file of one moment, for every kind of store. Keys of sealed fields are in it, wrapped;
    audit.key, which opens them, is not: keep that apart.
    """
    with faults(), opened(config) as kept:
        kept.backup(file)
    size = file.stat().st_size
    if as_json:
        tell_json({"store": kept.name, "file": str(file), "bytes": size})
    else:
        click.echo(f"{kept.name} is saved in {file}: {size} bytes")


@store.command()
@click.argument("file", type=_file)
@click.option("--replace", is_flag=True, help="Move a store that holds something aside; nothing is deleted.")
@click.option("--reason", default="", help="Why; it stands in the audit log.")
@config_option
@json_option
def restore(file: Path, replace: bool, reason: str, config: Path, *, as_json: bool) -> None:  # noqa: FBT001 - click's calling convention
    """Load the backup FILE into a store that is empty or not there yet.

    No sidecar may run on it. What was recorded after the backup was made is not in it: checkpoints kept
    elsewhere will show that.
    """
    with settings_faults():
        url = storage(config, os.environ).url
    with faults(), _recorded(config, file, reason):
        stamp = rfc3339(wall())[:19].replace("-", "").replace(":", "") + "Z"
        place = parsed(url)
        done = load(file, place, config.parent, replace=replace, stamp=stamp)
        LastSignedFile(state_directory(config, os.environ) / "audit.last").forget()
    if as_json:
        tell_json({"store": place.name, "file": str(file), "entries": done.entries, "aside": done.aside})
        return
    click.echo(f"{place.name} is restored from {file}: {done.entries} entries in the audit log")
    if done.aside:
        click.echo(f"the former store is kept as {done.aside}")


@store.command()
@config_option
@json_option
def check(config: Path, *, as_json: bool) -> None:
    """Tell what is wrong with the store; exit 1 when anything is.

    Whether it is sound, not whether somebody changed it: that is  fusebox audit verify.
    """
    with faults(), opened(config) as kept:
        found = kept.check()
    if as_json:
        tell_json({"ok": not found, "store": kept.name, "problems": found})
    elif found:
        for problem in found:
            click.echo(problem, err=True)
    else:
        click.echo(f"{kept.name}: ok")
    if found:
        raise click.exceptions.Exit(1)


@contextmanager
def opened(config: Path) -> Iterator[Store]:
    """The store of these settings, which has to be there; StoreError when it cannot be used."""
    with settings_faults():
        url = storage(config, os.environ).url
    with closing(open_store(url, config.parent, existing=True)) as kept:
        yield kept


@contextmanager
def _recorded(config: Path, file: Path, reason: str) -> Iterator[None]:
    """Let the audit log tell of it, from the spool, when a sidecar is started on the restored store."""
    with settings_faults():
        directory = state_directory(config, os.environ) / "spool"
    with closing(SpoolFile(directory, limit=NO_LIMIT)) as spool:

        def add(outcome: Outcome, why: str) -> None:
            entry = Entry(
                action="store.restore",
                outcome=outcome,
                at=rfc3339(wall()),
                actor="cli",
                target=str(file),
                reason=why,
                address=f"local, uid {os.getuid()}",
            )
            spool.add(spooled(entry), sync=True)

        add(Outcome.ACCEPTED, reason)
        try:
            yield
        except BaseException as error:
            with suppress(FuseboxError):  # the first failure is the one to tell
                add(Outcome.FAILED, str(error))
            raise
