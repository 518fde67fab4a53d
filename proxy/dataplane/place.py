"""Where an upstream is: its urls, resolved again and again, and whom to trust there."""

import asyncio
import ipaddress
import socket
import ssl
from urllib.parse import urlsplit

from proxy.core.policy import Upstream
from proxy.errors import Problem, SettingsError


class Place:
    """The urls of one upstream as (ip, port) pairs. Literal addresses need no resolver.

    Places with the same `key` are the same: the content of the CA file, `authorities`, counts and not
    its name. `SettingsError`: it cannot be used.
    """

    def __init__(self, settings: Upstream, authorities: str = "") -> None:
        urls = [urlsplit(url) for url in settings.urls]
        secure = urls[0].scheme == "https"
        self.tls = _tls(settings.ca_file, authorities) if secure else None
        self.key = key(settings, authorities)
        default = 443 if secure else 80
        self._names = [(url.hostname or "", url.port or default) for url in urls]
        self.server_name = settings.server_name or self._names[0][0]
        self.authority = urls[0].netloc.rpartition("@")[2].encode("ascii", "replace")
        self.literal = all(_is_address(host) for host, _ in self._names)
        self.known: list[tuple[str, int]] = list(self._names) if self.literal else []

    async def resolve(self) -> list[tuple[str, int]]:
        """All addresses of all names. A name that does not resolve leaves the last good ones;
        OSError when there never were any.
        """
        if self.literal:
            return self.known
        loop = asyncio.get_running_loop()
        found: list[tuple[str, int]] = []
        failed: OSError | None = None
        for host, port in self._names:
            try:
                infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except OSError as error:
                failed = error
                continue
            found += [(str(info[4][0]), int(info[4][1])) for info in infos]
        if found and failed is None:
            self.known = list(dict.fromkeys(found))
        elif found:
            self.known = list(dict.fromkeys(found + self.known))
        elif not self.known and failed is not None:
            raise failed
        return self.known


def key(settings: Upstream, authorities: str) -> object:
    """What makes a place another one."""
    return settings.urls, authorities, settings.server_name


def _tls(ca_file: str, authorities: str) -> ssl.SSLContext:
    """Always verifies: against what `ca_file` held when it was read, or the system's authorities."""
    if not ca_file:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cadata=authorities or "nothing")
    except (ssl.SSLError, ValueError) as error:
        problem = Problem(ca_file, "", f"cannot be used: {error}", "give a PEM file of trusted certificates")
        raise SettingsError([problem]) from None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
