"""`kill -9` under load: whoever saw as much as the first byte of an answer finds its entry in the spool."""

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from harness import GoneError, Scripted, Wire, echo, turn, until
from recorded import entries

ROUNDS = int(os.environ.get("FUSEBOX_ACTION_KILLS", "6"))
CLIENTS = 12


class Client:
    """Sends numbered requests one after the other, and notes of which it saw any of the answer."""

    def __init__(self, name: int, wire: Wire) -> None:
        self.name = name
        self.wire = wire
        self.sent = 0
        self.seen: list[str] = []

    async def run(self) -> None:
        while not self.wire.lost:
            self.sent += 1
            request_id = f"{self.name}-{self.sent}"
            at = len(self.wire.data)
            self.wire.send(
                b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nX-Request-Id: %b\r\n\r\nhi"
                % request_id.encode()
            )
            try:
                assert (await self.wire.response()).status == 200
            except GoneError:
                return
            finally:
                if len(self.wire.data) > at:
                    self.seen.append(request_id)


def start(upstream: str, directory: Path) -> subprocess.Popen[bytes]:
    program = Path(__file__).with_name("recording_sidecar.py")
    return subprocess.Popen([sys.executable, program, upstream, directory], stdout=subprocess.PIPE)


@pytest.mark.parametrize("round_", range(ROUNDS))
async def test_every_answer_that_was_seen_has_its_entry(tmp_path: Path, round_: int) -> None:
    upstream = Scripted(echo)
    await upstream.start()
    child = start(upstream.url, tmp_path)
    clients: list[Client] = []
    try:
        assert child.stdout is not None
        port = int(await asyncio.to_thread(child.stdout.readline))
        loop = asyncio.get_running_loop()
        for name in range(CLIENTS):
            _, wire = await loop.create_connection(Wire, "127.0.0.1", port)
            clients.append(Client(name, wire))
        running = asyncio.gather(*(client.run() for client in clients))
        enough = random.Random(round_).randrange(20, 1_500)
        await until(lambda: sum(len(client.seen) for client in clients) >= enough, "answers", 30)
        child.kill()
        await running
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
        for client in clients:
            client.wire.transport.abort()
        await upstream.stop()
        await turn()
    recorded = [it.request_id for it in entries(tmp_path, torn=1)]  # the one that was being written
    assert len(recorded) == len(set(recorded))
    seen = {request_id for client in clients for request_id in client.seen}
    assert len(seen) >= enough
    assert seen <= set(recorded)
