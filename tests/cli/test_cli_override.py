"""`fusebox override sign`: a header that counts, recorded before it is printed."""

import re
import stat

import orjson
import pytest
from test_cli_local import spooled

from proxy.clock import wall
from proxy.core.override import Override, Overrides, Verified, verify
from proxy.core.signing import key_from

SECRET = "0123456789abcdef" * 2


def key(config):
    return (config.parent / "var" / "signing.key").read_bytes()


@pytest.fixture
def sign(run, config):
    return lambda *words, **more: run("override", "sign", *words, "--config", config, **more)


def verified(header, key, settings=None) -> Override:
    found = verify(key, header.encode(), settings or Overrides(), wall())
    assert isinstance(found, Verified)
    assert found.clamped == ()
    return found.override


def test_the_header_stands_alone_on_the_last_line_and_counts(sign, config):
    """Before the first start: state directory and key are made for their owner alone."""
    result = sign("--set", "policy_mode=content_only", "--set", "alpha_override=null", "--name", "ann")
    assert result.exit_code == 0
    header = result.stdout.removesuffix("\n")
    assert re.fullmatch(r"[A-Za-z0-9_-]+", header)
    found = verified(header, key(config))
    assert found.by == "ann"
    assert dict(found.toggles) == {"policy_mode": "content_only", "alpha_override": None}
    assert found.until - found.at == 600
    assert found.id in result.stderr
    assert "policy_mode=content_only" in result.stderr
    assert stat.S_IMODE((config.parent / "var" / "signing.key").stat().st_mode) == 0o600


def test_it_stands_in_the_audit_log_first(sign, config):
    result = sign("--set", "disable_cf=true", "--ttl", "1h", "--reason", "is content alone any good?")
    (entry,) = spooled(config)
    found = verified(result.stdout.strip(), key(config))
    assert (entry.action, entry.outcome, entry.actor) == ("override.sign", "accepted", "cli")
    assert (entry.target, entry.reason) == (found.id, "is content alone any good?")
    assert entry.after["disable_cf"] is True
    assert entry.after["by"] == found.by
    assert entry.after["until"].startswith("20")
    assert result.stdout.strip() not in str(entry)


def test_what_cannot_be_recorded_is_not_made(sign, config):
    (config.parent / "var").mkdir()
    (config.parent / "var" / "spool").write_text("")
    result = sign("--explain")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "spool" in result.stderr
    assert "Traceback" not in result.output


def test_a_key_that_cannot_be_used_is_named(sign, config):
    sign("--explain")
    (config.parent / "var" / "signing.key").chmod(0o644)
    result = sign("--explain")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "signing.key: others may read or write it" in result.stderr
    assert len(spooled(config)) == 1


def test_the_secret_of_the_settings_signs(sign, config):
    config.write_text(config.read_text() + '[overrides]\nsecret = "${ITS_SECRET}"\n')
    result = sign("--explain", env={"ITS_SECRET": SECRET})
    assert verified(result.stdout.strip(), key_from(SECRET)).toggles == ()
    assert not (config.parent / "var" / "signing.key").exists()
    assert SECRET not in result.output


def test_as_json(sign, config):
    made = orjson.loads(sign("--set", "exposure_percent=12.5", "--name", "ann", "--json").stdout)
    assert made.keys() == {"id", "by", "until", "toggles", "header"}
    assert (made["toggles"], made["by"]) == ({"exposure_percent": 12.5}, "ann")
    assert verified(made["header"], key(config)).id == made["id"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "it would set nothing: say --set K=V, or --explain"),
        (("--set", "kill_switch=true"), 1, "kill_switch is for everybody"),
        (("--set", "experiment_freeze=true"), 1, "experiment_freeze is for everybody"),
        (("--set", "region_scope=eu"), 1, "region_scope is for everybody"),
        (("--set", "disable_fc=true"), 2, "did you mean disable_cf?"),
        (("--set", "disable_cf=maybe"), 2, "true or false"),
        (("--set", "alpha_override=2"), 2, "from 0 to 1"),
        (("--set", "alpha_override=0.9"), 1, "alpha_override should be from 0 to 0.5 by [overrides]"),
        (("--set", "cache_mode=prewarm"), 1, "cache_mode may not be overridden here"),
        (("--set", "disable_cf=true", "--set", "policy_mode=collab_only"), 1, "collab_only asks cf alone"),
        (("--explain", "--ttl", "2h"), 1, "--ttl should be at most 3600s"),
        (("--explain", "--ttl", "soon"), 2, "should be like 12h"),
        (("--explain", "--name", "a\nb"), 2, "should be printable"),
        (("--explain", "--name", "a" * 65), 2, "1 to 64 characters"),
        (("--explain", "--name", ""), 2, "should be printable"),
    ],
)
def test_what_settings_do_not_allow_is_told_and_nothing_is_made(sign, config, words, code, said):
    allowed = "alpha_max = 0.5\ntoggles = ['alpha_override', 'disable_cf', 'policy_mode']\n"
    config.write_text(config.read_text() + "[overrides]\n" + allowed)
    result = sign(*words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
    assert not (config.parent / "var").exists()


def test_every_fault_at_once(sign):
    result = sign("--set", "kill_switch=true", "--set", "region_scope=eu", "--ttl", "2h")
    for said in ("kill_switch is", "region_scope is", "--ttl should"):
        assert said in result.stderr


def test_switched_off_nothing_is_signed(sign, config):
    config.write_text(config.read_text() + "[overrides]\nenabled = false\n")
    result = sign("--explain")
    assert (result.exit_code, "switched off" in result.stderr) == (1, True)


def test_faults_of_the_settings_elsewhere_do_not_matter(sign, config):
    config.write_text(config.read_text() + '[listen]\nadress = "x"\n')
    assert sign("--explain").exit_code == 0
    config.write_text(config.read_text() + "[overrides]\nalpha_max = 7\n")
    result = sign("--explain")
    assert (result.exit_code, "overrides.alpha_max" in result.stderr) == (2, True)
