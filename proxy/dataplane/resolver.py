"""From an upstream's urls to addresses, again and again."""

import asyncio
import ipaddress
import socket
from urllib.parse import urlsplit

from proxy.core.policy import Upstream


class Endpoints:
    """The urls of one upstream as (ip, port) pairs. Literal addresses need no resolver."""

    def __init__(self, settings: Upstream) -> None:
        urls = [urlsplit(url) for url in settings.urls]
        self.tls = urls[0].scheme == "https"
        default = 443 if self.tls else 80
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


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
