"""One example upstream as a process: `python -m proxy.demo.upstreams NAME [--port P]`.

Prints `NAME listening on HOST:PORT` once it answers (port 0: a free one), ends on SIGTERM or
SIGINT, and ends by itself when the process that started it is gone.
"""

import argparse
import asyncio
import os
import signal
import sys

import uvloop
from aiohttp import web

from proxy.demo.effects import BODY_MAX, Ledger, email_order, payment_order
from proxy.demo.faults import FAULTS, Faults, answer, misbehave

NAMES = ("cf", "content", "payment", "email")
HOST = "127.0.0.1"
PARENT_CHECK_S = 0.5


def application(name: str) -> web.Application:
    """The upstream called `name`, with health, faults and its own routes. Call inside a running loop."""
    app = web.Application(middlewares=[misbehave], client_max_size=BODY_MAX)
    app[FAULTS] = faults = Faults()
    app.add_routes([web.get("/healthz", _healthy), *faults.routes(), *_routes(name)])
    return app


def _routes(name: str) -> list[web.RouteDef]:
    match name:
        case "payment":
            ledger = Ledger("payment", payment_order)
            return [web.post("/payment/charges", ledger.perform), web.get("/payment/ledger", ledger.show)]
        case "email":
            outbox = Ledger("email", email_order)
            return [web.post("/email/messages", outbox.perform), web.get("/email/outbox", outbox.show)]
        case "cf" | "content":
            return _recommender(name)
        case _:
            raise ValueError(f"no example upstream is called {name!r}")


def _recommender(name: str) -> list[web.RouteDef]:
    # only these two need numpy and the models; the others start faster without
    from proxy.demo.candidates import Candidates, ContentCandidates, Neighbours, film  # noqa: PLC0415
    from proxy.demo.models import CollaborativeModel, ContentModel  # noqa: PLC0415
    from proxy.demo.ratings import ratings  # noqa: PLC0415

    if name == "content":
        content = ContentCandidates(ContentModel(ratings()))
        return [
            web.get("/candidates", content.answer),
            web.get("/neighbours", content.neighbours),
            web.get("/content/films/{id}", film),
        ]
    model = CollaborativeModel(ratings())
    return [
        web.get("/candidates", Candidates(model).answer),
        web.get("/neighbours/{id}", Neighbours(model).answer),
    ]


async def _healthy(_: web.Request) -> web.Response:
    return answer({"status": "ok"})


async def run(name: str, port: int) -> None:
    """Serves until asked to stop, or until the parent process has gone."""
    parent = os.getppid()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # a handler whose client has left is cancelled: a hung request must not go on hanging
    runner = web.AppRunner(
        application(name), access_log=None, handler_cancellation=True, shutdown_timeout=0.2
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, port)
        await site.start()
        print(f"{name} listening on {HOST}:{runner.addresses[0][1]}", flush=True)
        while not stop.is_set() and os.getppid() == parent:
            try:
                await asyncio.wait_for(stop.wait(), PARENT_CHECK_S)
            except TimeoutError:
                continue
    finally:
        await runner.cleanup()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m proxy.demo.upstreams", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    arguments = parser.parse_args()
    try:
        uvloop.run(run(arguments.name, arguments.port))
    except OSError as error:
        print(f"cannot listen on {HOST}:{arguments.port}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
