"""What whoever starts a sidecar is told: on stderr for a person, in the log for the record."""

import logging
import sys
from contextlib import suppress

from proxy import __version__
from proxy.control import KillStatus
from proxy.ports import StoreError
from proxy.settings import Settings, split_address
from proxy.storage import directory
from proxy.storage.tokens import TokenFile

_log = logging.getLogger("fusebox")


def say(line: str) -> None:
    """For whoever started this by hand; stdout belongs to the log. Without a stderr nobody is told."""
    if sys.stderr is None:
        return
    with suppress(OSError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def announce(settings: Settings, *, listen: str, admin: str, kill: KillStatus, tokens: TokenFile) -> None:
    """Where it listens, and all that is not as it should be; `listen` and `admin` are urls."""
    _log.info("started", extra={"version": __version__, "listen": listen, "admin": admin})
    say(f"fusebox {__version__} listens on {listen}, admin on {admin}")
    if kill.kill:
        since = f" since {kill.at}" if kill.at else ""
        _warn(f"the kill switch is ON{since} by {kill.by}: {kill.reason}")
    try:
        directory.try_write(settings.state_directory)
    except StoreError as error:
        _warn(
            f"the state directory (state.directory) {error}; until that is mended a kill is forgotten by a "
            "restart, a release is refused, and no token can be made"
        )
    _tell_tokens(tokens, settings)


def _tell_tokens(tokens: TokenFile, settings: Settings) -> None:
    try:
        usable = tokens.usable()
    except StoreError as error:
        _warn(f"nobody can use the admin API: {error}")
        return
    if usable:
        return
    first = f"fusebox token create --role admin --name NAME --config {settings.file}"
    say(f"fusebox: no token yet; make the first: {first}")
    host, _ = split_address(settings.admin.address)
    if host not in {"localhost", "::1"} and not host.startswith("127."):
        _warn(f"admin.address {settings.admin.address} can be reached by others, and nobody has a token yet")


def _warn(text: str) -> None:
    _log.warning("%s", text)
    say(f"fusebox: {text}")
