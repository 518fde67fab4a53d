"""The drills of the rollback against a real sidecar process: the page's commands, and nobody else touched."""

import asyncio
import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_drill_in_use import TOML, Recommenders, aside

from proxy.cli import main
from proxy.core.roles import Role
from proxy.core.rollback.exercises import NAMES

PAGE = (Path(__file__).parents[2] / "docs" / "rollback_shadow_tests.md").read_text()
COMMANDS = re.findall(r"^fusebox .*$", PAGE, re.MULTILINE)
CLOCKS = {"lead_s": 0.2, "confirm_s": 0, "hold_s": 0.25, "recovery_step_s": 0.25, "limit_s": 40}
TIMES = ["--per-s", "80"] + [
    word for name, seconds in CLOCKS.items() for word in ("--clock", f"{name}={seconds}")
]


SOONER = "[rollback]\nminimum_requests = 5\n"


@pytest.fixture
async def recommenders():
    made = Recommenders()
    await made.start()
    yield made
    made.server.close()


@pytest.fixture
async def drill(box, recommenders, request):
    """A command on a sidecar in order; gives its exit code and what it printed as JSON."""
    box.options = getattr(request, "param", ())
    settings = box.settings.read_text().partition("[upstreams.")[0]
    box.settings.write_text(settings + TOML.format(port=recommenders.port, more=SOONER))
    await box.start()
    where = ("--config", str(box.settings), "--url", box.listen, "--admin", box.admin, "--token", box.token())

    async def drill(*words):
        result = await asyncio.to_thread(CliRunner().invoke, main, [*words, *where, "--json"])
        assert result.stdout, result.output
        return result.exit_code, json.loads(result.stdout)

    return drill


async def real_traffic(box, seen, over):
    """Of somebody else, as long as the drills go on."""
    while not over.is_set():
        answer = await box.get("/films?user_id=u777&k=5")
        said = (await answer.json())["metadata"]
        staged = "stage" in answer.headers["X-Fusebox-Decision"]
        seen.append((answer.status, staged, said["policy"], said["degraded"]))
        await asyncio.sleep(0.05)


async def every_command(drill, over):
    for line in COMMANDS:
        _, *words = shlex.split(line)
        more = [] if "toggles" in words else TIMES
        code, found = await drill(*words, *more)
        assert code == 0, [it for it in found["criteria"] if not it["holds"]]
        for it in found["criteria"]:
            assert "toggles" in words or f"`{it['name']}`" in PAGE
    over.set()


async def test_every_command_of_the_page_holds_its_criteria_and_touches_nobody_else(drill, box):
    assert {line.split()[2] for line in COMMANDS} == {"toggles", *NAMES}
    seen, over = [], asyncio.Event()
    await asyncio.gather(real_traffic(box, seen, over), every_command(drill, over))
    assert set(seen) == {(200, False, "hybrid_default", False)}
    _, metrics = await box.api("GET", "/metrics")
    assert 'fusebox_rollback_state{state="NORMAL"} 1.0' in metrics
    real, apart = await aside(box)
    assert real == len(seen)
    assert apart > 300


@pytest.mark.parametrize("drill", [("--workers", "2")], indirect=True, ids=["workers"])
async def test_workers_go_by_a_drill_and_tell_what_it_came_to(drill, box):
    code, found = await drill("drill", "error", "--reason", "test", *TIMES)
    assert code == 0, [it for it in found["criteria"] if not it["holds"]]
    real, apart = await aside(box)
    assert real == 0
    assert 100 < found["drill"]["requests"] <= apart
    _, log = await box.api("GET", "/v1/audit?action=drill.end", box.token(Role.ADMIN))
    assert [it["target"] for it in log["entries"]] == [found["drill"]["id"]]
