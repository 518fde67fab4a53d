"""`fusebox toggles` and `fusebox flags` against a real sidecar: what they say is what then holds."""

import asyncio
import json

import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.core.roles import Role


@pytest.fixture
async def fusebox(box):
    """A running sidecar, and the command line on it; an operator's token."""
    settings = box.settings.read_text().replace('cf = "cf" }', 'cf = "cf", content = "payment" }')
    box.settings.write_text(f'{settings}flag = "billing"\n[flaps]\nchanges_per_hour = 1\n')
    await box.start()
    token = box.token(Role.OPERATOR)

    async def fusebox(*words, code=0):
        command = [*words, "--admin", box.admin, "--token", token]
        result = await asyncio.to_thread(CliRunner().invoke, main, command)
        assert result.exit_code == code, result.output
        return result.output

    return fusebox


async def as_json(fusebox, *words):
    return json.loads(await fusebox(*words, "--json"))


async def policy(box):
    response = await box.get("/recommendations?k=2&user_id=u1")
    return json.loads(await response.text())["metadata"]["policy"]


async def test_a_change_holds_is_told_and_is_taken_back(fusebox, box):
    told = await fusebox("toggles", "set", "candidate_fallback_level=D", "disable_cf=on", "--reason", "slow")
    assert "candidate_fallback_level  A       D     -" in told
    assert await policy(box) == "popularity"
    assert await fusebox("toggles", "get", "candidate_fallback_level") == "D\n"
    first, second = (await as_json(fusebox, "toggles", "history"))["versions"][:2]
    assert (first["reason"], first["diff"]["disable_cf"]) == ("slow", {"before": False, "after": True})
    await fusebox("toggles", "revert", str(second["version"]), "--reason", "better again")
    assert await policy(box) != "popularity"
    assert "revert" in (await fusebox("toggles", "history")).splitlines()[1]
    told = await fusebox("toggles", "set", "exposure_percent=12.5", "--ttl", "10m", "--reason", "r")
    (at,) = [it["at"] for it in (await as_json(fusebox, "toggles", "get"))["reverts"]]
    row = next(line.split() for line in told.splitlines() if line.startswith("exposure_percent"))
    assert row == ["exposure_percent", "100", "12.5", at]


async def test_a_preview_knows_whom_the_flap_budget_holds(fusebox, box):
    await fusebox("toggles", "set", "exposure_percent=0", "--reason", "r")
    await box.get("/recommendations?k=2&user_id=u1")
    found = await as_json(fusebox, "toggles", "preview", "exposure_percent=100")
    assert (found["users"], found["exposed_before"], found["exposed_after"]) == (1, 0, 0)


async def test_what_is_refused_changes_nothing(fusebox):
    before = await as_json(fusebox, "toggles", "get")

    async def refused(*words):
        return await fusebox("toggles", "set", *words, "--reason", "r", code=1)

    assert "somebody was faster" in await refused("disable_cf=on", "--if-match", "999")
    told = await refused("disable_cf=on", "disable_content=on", "policy_mode=collab_only")
    assert "\n  toggles.policy_mode: " in told
    assert "\n  toggles.candidate_fallback_level: " in told
    assert "make a token with a higher role" in await refused("kill_switch=on")
    told = await fusebox("flags", "set", "biling=off", "--reason", "r", code=1)
    assert "flags.biling" in told
    assert await as_json(fusebox, "toggles", "get") == before


async def test_baselines_rules_and_flags(fusebox, box, tmp_path):
    asked = await as_json(fusebox, "toggles", "preview", "--baseline", "degraded")
    told = await fusebox("toggles", "baseline", "degraded", "--reason", "r")
    assert all(name in told for name in asked["diff"])
    assert "baseline degraded\n" in await fusebox("toggles", "get")
    rules = [{"scope": {"region": ["eu"]}, "toggles": {"disable_content": False}}]
    file = tmp_path / "rules.json"
    file.write_text(json.dumps(rules))
    told = await fusebox("toggles", "set", "--rules", str(file), "--reason", "r")
    assert "rules    0 rules  1 rule " in told
    assert (await as_json(fusebox, "toggles", "get"))["rules"] == rules
    assert (await box.get("/payment/x")).status == 200
    assert "flags.billing  on      OFF" in await fusebox("flags", "set", "billing=off", "--reason", "r")
    assert (await box.get("/payment/x")).status == 503
    assert "billing  OFF" in await fusebox("flags", "get")
