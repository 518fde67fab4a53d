"""The signing key of a running sidecar: made, told of when it cannot be had, changed by a reload."""

import base64
import json
import signal

import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.clock import wall
from proxy.core.override import Override, sign
from proxy.core.signing import key_from

SECRET = "correct horse battery staple, twice over"


def token(key):
    at = int(wall())
    return sign(key, Override("o-1", "ann", at, at + 600, (("policy_mode", "collab_only"),)))


async def asked(box, key):
    """Status, and the mode or the reason, of a request with an override signed by `key`."""
    url = box.listen + "/recommendations?user_id=1&k=2"
    async with box.session.get(url, headers={"X-Fusebox-Override": token(key)}) as answer:
        said = await answer.json(content_type=None)
        return answer.status, said["metadata"]["policy"] if answer.status == 200 else said["detail"]


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
async def test_the_key_is_made_holds_in_every_process_and_is_shown_nowhere(box, options):
    box.options = options
    await box.start()
    path = box.directory / "var" / "signing.key"
    first = path.read_bytes()
    assert await asked(box, first) == (200, "collab_only")
    shown = json.dumps(box.lines) + json.dumps(await box.api("GET", "/v1/status", box.token()))
    shown += json.dumps(await box.api("GET", "/v1/openapi.json"))
    for spelled in (first.hex(), base64.b64encode(first).decode(), repr(first)[2:-1]):
        assert spelled not in shown
    # The next reload makes another; what was signed no longer counts.
    path.unlink()
    box.signal(signal.SIGHUP)
    await box.logged("reloaded")
    status, detail = await asked(box, first)
    assert (status, "signature" in detail) == (400, True)
    assert await asked(box, path.read_bytes()) == (200, "collab_only")
    assert path.read_bytes() != first
    assert await box.terminate() == 0


async def test_without_a_key_overrides_are_refused_trouble_is_told_and_traffic_goes_on(box):
    path = box.directory / "var" / "signing.key"
    path.parent.mkdir()
    path.write_bytes(b"x" * 32)
    path.chmod(0o644)
    await box.start()
    assert (await box.get("/recommendations?user_id=1&k=2")).status == 200
    status, detail = await asked(box, b"x" * 32)
    assert (status, "no signing key" in detail) == (400, True)
    _, ready = await box.api("GET", "/readyz")
    assert ready["ready"] is True
    assert ["signing.key: others may read or write it" in it for it in ready["troubles"]] == [True]
    path.chmod(0o600)
    box.signal(signal.SIGHUP)
    await box.logged("reloaded")
    assert (await box.api("GET", "/readyz"))[1]["troubles"] == []
    assert await asked(box, b"x" * 32) == (200, "collab_only")
    await box.terminate()


async def test_a_secret_of_the_settings_signs_for_all_instances(box, monkeypatch):
    monkeypatch.setenv("OVERRIDE_SECRET", SECRET)
    box.write(extra='[overrides]\nsecret = "${OVERRIDE_SECRET}"')
    await box.start()
    assert await asked(box, key_from(SECRET)) == (200, "collab_only")
    assert not (box.directory / "var" / "signing.key").exists()
    assert SECRET not in json.dumps(box.lines)
    await box.terminate()


async def test_what_the_command_line_signs_beside_it_counts_and_stands_in_the_log(box):
    await box.start()
    words = ["override", "sign", "--set", "policy_mode=collab_only", "--config", str(box.settings)]
    result = CliRunner().invoke(main, words, prog_name="fusebox")
    assert result.exit_code == 0
    url = box.listen + "/recommendations?user_id=1&k=2"
    async with box.session.get(url, headers={"X-Fusebox-Override": result.stdout.strip()}) as answer:
        assert answer.status == 200
    await box.terminate()  # what waits in the spool is taken in by then
    listed = CliRunner().invoke(main, ["audit", "export", *words[-2:]], prog_name="fusebox")
    assert "override.sign" in listed.output
