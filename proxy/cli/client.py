"""One call to the admin API of a running sidecar; what goes wrong is told with the way out."""

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import click
import orjson

TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """Where the admin API is and who asks."""

    url: str
    token: str

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON of a 2xx answer; ClickException (exit 1) says what else happened."""
        try:
            status, content = asyncio.run(self._call(method, path, body))
        except aiohttp.ClientConnectorError as error:
            raise click.ClickException(
                f"nothing answers at {self.url} ({error.os_error}): is the sidecar running? "
                "Start it with  fusebox serve,  or name another with --admin URL or FUSEBOX_ADMIN"
            ) from error
        except (TimeoutError, aiohttp.ClientConnectionError) as error:
            raise click.ClickException(
                f"{self.url} gave no answer ({error or f'{TIMEOUT_S:g} s are over'}): "
                "a change may or may not have happened, look with  fusebox status"
            ) from error
        except (aiohttp.ClientError, ValueError) as error:
            raise click.ClickException(f"{self.url} is no admin API: {error}") from error
        return self._judged(status, content)

    async def _call(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session,
            session.request(
                method, self.url + path, json=body, headers=headers, allow_redirects=False
            ) as response,
        ):
            return response.status, await response.read()

    def _judged(self, status: int, content: bytes) -> Any:
        try:
            answer = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise click.ClickException(
                f"{self.url} is no admin API: it answered {status} without JSON; "
                "--admin takes the address in [admin], not the one in [listen]"
            ) from error
        if 200 <= status < 300:
            return answer
        said = answer if isinstance(answer, dict) else {}
        text = ": ".join(str(said[key]) for key in ("title", "detail") if said.get(key)) or f"status {status}"
        raise click.ClickException(f"{text}{self._way_out(status)}")

    def _way_out(self, status: int) -> str:
        if status == 401:
            return f" ({'this token is not known there' if self.token else 'give --token or FUSEBOX_TOKEN'})"
        if status == 403:
            return " (make a token with a higher role:  fusebox token create --role ROLE --name NAME)"
        return ""


def admin_url(_: click.Context, __: click.Parameter, value: str) -> str:
    """A base url without a slash at its end; `host:port` alone means http."""
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise click.BadParameter("should be like http://127.0.0.1:8081")
    return url.rstrip("/")


def plain_token(_: click.Context, __: click.Parameter, value: str) -> str:
    """A token that can stand in a header; its text is never repeated."""
    token = value.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise click.BadParameter("is not a token: it holds characters that no token has")
    return token
