"""One call to the admin API of a running sidecar; what goes wrong is told with the way out."""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
import click
import orjson
from yarl import URL

from proxy.cli.common import json_option

TIMEOUT_S = 10.0

_OTHER_ADDRESS = "--admin takes the address in [admin], not the one in [listen]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """Where the admin API is and who asks."""

    url: str
    token: str

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        query: dict[str, str] | None = None,
        version: int | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Any:
        """The JSON of a 2xx answer; ClickException (exit 1) says what else happened.

        What is empty in `query` is left out. `version` is the one that the change is meant for.
        """
        asked = {name: value for name, value in (query or {}).items() if value}
        target = f"{path}?{urlencode(asked)}" if asked else path
        try:
            status, content = asyncio.run(self._call(method, target, body, version, timeout_s))
        except aiohttp.ClientConnectorError as error:
            raise click.ClickException(
                f"nothing answers at {self.url} ({error.os_error}): is the sidecar running? "
                "Start it with  fusebox serve,  or name another with --admin URL or FUSEBOX_ADMIN"
            ) from error
        except (TimeoutError, aiohttp.ClientConnectionError) as error:
            raise click.ClickException(
                f"{self.url} gave no answer ({error or f'{timeout_s:g} s are over'}): "
                "a change may or may not have happened, look with  fusebox status"
            ) from error
        except (aiohttp.ClientError, ValueError) as error:
            raise click.ClickException(f"{self.url} is no admin API: {error}") from error
        return self._judged(status, content)

    async def _call(
        self, method: str, target: str, body: dict[str, Any] | None, version: int | None, timeout_s: float
    ) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if version is not None:
            headers["If-Match"] = f'"{version}"'
        if method != "GET":
            # aiohttp asks a second time when a PUT or DELETE loses its answer; so it happens once
            headers["Idempotency-Key"] = uuid.uuid4().hex
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s)) as session,
            session.request(
                method,
                URL(self.url + target, encoded=True),
                json=body,
                headers=headers,
                allow_redirects=False,
            ) as response,
        ):
            return response.status, await response.read()

    def _judged(self, status: int, content: bytes) -> Any:
        try:
            answer = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise click.ClickException(
                f"{self.url} is no admin API: it answered {status} without JSON; {_OTHER_ADDRESS}"
            ) from error
        if 200 <= status < 300:
            return answer
        said = answer if isinstance(answer, dict) else {}
        text = ": ".join(str(said[key]) for key in ("title", "detail") if said.get(key)) or f"status {status}"
        if len(faults := said.get("errors") or ()) > 1:  # which the detail has in one line
            text = "\n".join([f"{said['title']}:", *(f"  {it['at']}: {it['detail']}" for it in faults)])
        raise click.ClickException(f"{text}{self._way_out(status, str(said.get('code')))}")

    def _way_out(self, status: int, code: str) -> str:
        if status == 401:
            given = "it is unknown there, expired or revoked:  fusebox token list  where the sidecar runs"
            return f" ({given if self.token else 'give --token or FUSEBOX_TOKEN'})"
        if status == 403:
            return " (make a token with a higher role:  fusebox token create --role ROLE --name NAME)"
        if status == 412:
            return " (somebody was faster: look with  fusebox toggles get  and decide again)"
        if status == 429:
            return " (a valid token passes all the same; others wait a minute)"
        if code == "no_route":  # the data plane, which knows no such path
            return f" ({_OTHER_ADDRESS})"
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


_OPTIONS = (
    click.option(
        "--admin",
        default="http://127.0.0.1:8081",
        envvar="FUSEBOX_ADMIN",
        callback=admin_url,
        show_default=True,
        show_envvar=True,
        metavar="URL",
        help="The admin API, by the address in [admin].",
    ),
    click.option(
        "--token",
        default="",
        envvar="FUSEBOX_TOKEN",
        callback=plain_token,
        show_envvar=True,
        metavar="TOKEN",
        help="From `fusebox token create`.",
    ),
    json_option,
)


def remote(work: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of the admin API and `--json`; it is called with `api` and `as_json`."""

    @wraps(work)
    def called(*, admin: str, token: str, **rest: Any) -> None:
        work(api=Admin(url=admin, token=token), **rest)

    for option in reversed(_OPTIONS):
        called = option(called)
    return called
