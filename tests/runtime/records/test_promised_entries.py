"""Everything that docs/audit.md says is recorded, once each, as the API and the command line show it."""

import asyncio
import json
import os
import signal

from proxy.core.roles import Role


def only(entries, action, **fields):
    """The one entry of this action that says so."""
    [found] = [
        it for it in entries if it["action"] == action and all(it[name] == fields[name] for name in fields)
    ]
    return found


async def all_entries(records, token):
    """By the API, page by page, the oldest first."""
    found, cursor = [], ""
    while True:
        query = f"/v1/audit?limit=7{f'&cursor={cursor}' if cursor else ''}"
        status, page = await records.box.api("GET", query, token)
        assert status == 200, page
        found += page["entries"]
        if not (cursor := page["next"]):
            return found[::-1]


async def test_all_that_is_promised_is_there(records):
    box = records.box
    await records.start()
    viewer = box.token(Role.VIEWER)
    answers = {}

    async def ask(name, method, path, token, expected, **body):
        headers = {"Authorization": f"Bearer {token}"}
        async with box.session.request(
            method, box.admin + path, headers=headers, json=body or None
        ) as answer:
            assert answer.status == expected, await answer.text()
            answers[name] = answer.headers["X-Request-Id"]

    def command(*words):
        return asyncio.to_thread(records.run, *words)

    made = json.loads(
        await command(
            "token", "create", "--role", "operator", "--name", "bob", "--reason", "new here", "--json"
        )
    )
    await ask("open", "POST", "/v1/breakers/cf/open", made["token"], 200, reason="cf burns")
    await ask("close", "POST", "/v1/breakers/cf/close", made["token"], 200, reason="it does not")
    await ask("auto", "POST", "/v1/breakers/cf/auto", made["token"], 200, reason="over")
    await ask("on", "PUT", "/v1/kill", records.token, 200, reason="all burns")
    await ask("off", "DELETE", "/v1/kill", records.token, 200, reason="put out")
    await ask("forbidden", "PUT", "/v1/kill", viewer, 403, reason="me too")
    await command("token", "revoke", "--name", "bob", "--reason", "left")
    await ask("unknown", "GET", "/v1/status", "fbx_nobody", 401)
    await ask("revoked", "GET", "/v1/status", made["token"], 401)
    answer = await box.get("/payment/card", headers={"X-User-Id": "ann", "X-Request-Id": "by-ann"})
    assert answer.status == 200
    box.signal(signal.SIGHUP)
    await box.logged("reloaded")
    good = box.settings.read_text()
    box.settings.write_text(good + "nonsense = 1\n")
    box.signal(signal.SIGHUP)
    await box.logged("reload refused")
    box.settings.write_text(good)
    await command("audit", "export", "-o", str(box.directory / "log.jsonl"), "--reason", "look")
    box.signal(signal.SIGKILL)
    await box.ended()
    await box.start()
    assert await box.terminate() == 0
    await box.start()

    async def all_there():
        entries = await all_entries(records, records.token)
        return entries if len([it for it in entries if it["action"] == "sidecar.start"]) == 3 else None

    entries = await records.until(all_there)
    assert [it["seq"] for it in entries] == list(range(len(entries)))
    here, local = "127.0.0.1", f"local, uid {os.getuid()}"
    wanted = [
        ("token.create", "accepted", "bob", "cli", "", "new here", local, None, None, {"role": "operator"}),
        ("breaker.open", "accepted", "cf", "bob", "operator", "cf burns", here, "open",
         {"forced": None}, {"forced": "open"}),
        ("breaker.close", "accepted", "cf", "bob", "operator", "it does not", here, "close",
         {"forced": "open"}, {"forced": "closed"}),
        ("breaker.auto", "accepted", "cf", "bob", "operator", "over", here, "auto",
         {"forced": "closed"}, {"forced": None}),
        ("kill.on", "done", "kill", "who-0", "commander", "all burns", here, "on",
         {"kill": False}, {"kill": True}),
        ("kill.off", "accepted", "kill", "who-0", "commander", "put out", here, "off",
         {"kill": True}, {"kill": False}),
        ("access.refused", "refused", "PUT /v1/kill", "the-viewer", "viewer", None, here, "forbidden",
         None, {}),
        ("token.revoke", "accepted", "bob", "cli", "", "left", local, None, None, {}),
        ("settings.reload", "accepted", str(box.settings), "SIGHUP", "", "", "", None, None, {}),
        ("settings.reload", "refused", str(box.settings), "SIGHUP", "", None, "", None, None, {}),
        ("audit.export", "accepted", str(box.directory / "log.jsonl"), "cli", "", "look", local,
         None, None, {}),
    ]  # fmt: skip
    for action, outcome, target, actor, role, reason, address, request, before, after in wanted:
        found = only(entries, action, outcome=outcome)
        said = [found.get(name) or "" for name in ("target", "actor", "role", "address")]
        assert said == [target, actor, role, address], found
        assert reason is None or (found.get("reason") or "") == reason, found
        assert found.get("request_id") == answers.get(request), found
        assert before is None or found["before"] == before, found
        assert after.items() <= (found.get("after") or {}).items(), found
        assert found["at"]
    assert "nonsense" in only(entries, "settings.reload", outcome="refused")["reason"]
    refused = [it for it in entries if it["action"] == "token.refused"]
    assert [(it["request_id"], it["address"], it["outcome"]) for it in refused] == [
        (answers["unknown"], here, "refused"),
        (answers["revoked"], here, "refused"),
    ]
    assert (refused[1]["target"], "revoked" in refused[1]["reason"]) == ("bob", True)
    paid = only(entries, "user.pay")
    shown = [paid[name] for name in ("actor", "target", "status", "request_id", "outcome")]
    assert shown == ["ann", "card", 200, "by-ann", "done"]
    life = [it for it in entries if it["action"].startswith("sidecar.")]
    assert [it["action"] for it in life] == [
        "sidecar.start",  # and no stop: it was killed
        "sidecar.start",
        "sidecar.stop",
        "sidecar.start",
    ]
    assert all(it["actor"] == "fusebox" for it in life)
    assert [it["after"]["killed"] for it in life if it["action"] == "sidecar.start"] == [False, False, False]
    assert life[2]["reason"] == "drained"

    listed = json.loads(await asyncio.to_thread(run_remote, records, "audit", "list", "--limit", "500"))[
        "entries"
    ]
    assert listed[::-1] == entries
    _, page = await box.api("GET", "/v1/audit?action=user.", viewer)
    assert [(it.get("sealed"), "actor" in it) for it in page["entries"]] == [(True, False)]


def run_remote(records, *words):
    from click.testing import CliRunner

    from proxy.cli import main

    words = [*words, "--json", "--admin", records.box.admin, "--token", records.token]
    done = CliRunner().invoke(main, words, prog_name="fusebox")
    assert done.exit_code == 0, done.output
    return done.output
