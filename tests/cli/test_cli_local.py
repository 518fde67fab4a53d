"""Commands that work on files: check, token, demo, and help on every level."""

import re
import sys

import click
import orjson
import pytest

from proxy.cli import main
from proxy.core.audit import parse
from proxy.core.roles import Principal, Role
from proxy.ports import StoreError
from proxy.storage.spool import SpoolReader
from proxy.storage.tokens import TokenFile


def test_check_of_good_settings_exits_0(run, config):
    result = run("check", "--config", config)
    assert result.exit_code == 0
    assert "ok (1 routes, 1 upstreams, 0 films" in result.output


def test_check_tells_every_problem_with_file_place_and_hint(run, config):
    config.write_text(config.read_text() + '[listen]\nadress = ""\n[admin]\naddress = "x"\n')
    result = run("check", "--config", config)
    assert result.exit_code == 2
    assert f"{config}: listen.adress: unknown key (did you mean 'address'?)" in result.stderr
    assert f"{config}: admin.address: should be host:port" in result.stderr
    assert "2 problems" in result.stderr
    assert result.stdout == ""


def test_check_makes_no_state_directory_and_needs_none(run, config):
    assert run("check", "--config", config).stderr == ""
    assert [path.name for path in config.parent.iterdir()] == [config.name]


def test_check_warns_of_a_state_directory_that_cannot_be_used(run, config):
    """It is about this machine, not about the settings: exit 0 all the same."""
    (config.parent / "var").write_text("")
    result = run("check", "--config", config)
    assert (result.exit_code, "ok (" in result.stdout) == (0, True)
    assert result.stderr.startswith(
        f"{config}: state.directory: {config.parent / 'var'} is not a directory: a warning"
    )


def test_the_environment_names_the_settings_file(run, config):
    assert run("check", env={"FUSEBOX_CONFIG": str(config)}).exit_code == 0
    assert run("check", "--config", config, env={"FUSEBOX_CONFIG": "nowhere.toml"}).exit_code == 0


def test_a_missing_settings_file_is_a_config_error(run):
    result = run("check", "--config", "nowhere.toml")
    assert result.exit_code == 2
    assert "nowhere.toml: cannot be read" in result.stderr


def test_a_new_token_stands_alone_on_the_last_line_and_works(run, config):
    result = run("token", "create", "--role", "commander", "--name", "ann", "--config", config)
    assert result.exit_code == 0
    token = result.output.splitlines()[-1]
    assert re.fullmatch(r"fbx_\S{43}", token)
    assert result.stdout == token + "\n"
    file = TokenFile(config.parent / "var" / "tokens.json")
    assert file.verify(token) == Principal(name="ann", role=Role.COMMANDER)


def token(run, config, *words, json=False):
    return run("token", *words, "--config", config, *(["--json"] if json else []))


def test_tokens_are_listed_without_their_secret_and_revoked(run, config):
    made = token(run, config, "create", "--role", "viewer", "--name", "ann").stdout.strip()
    token(run, config, "create", "--role", "admin", "--name", "bob", "--ttl", "90d")
    (config.parent / "var" / "token_use.json").write_text('{"ann": "then"}')
    listed = token(run, config, "list")
    head, ann, bob = listed.stdout.splitlines()
    assert head.split() == ["NAME", "ROLE", "STATE", "CREATED", "EXPIRES", "REVOKED", "LAST", "USED"]
    assert ann.split()[:3] == ["ann", "viewer", "valid"]
    assert ann.split()[4:] == ["-", "-", "then"]
    assert bob.split()[4].startswith("20")
    assert made not in listed.output
    assert token(run, config, "revoke", "--name", "ann").output == "revoked ann\n"
    again = token(run, config, "revoke", "--name", "ann")
    assert (again.exit_code, "or it is revoked" in again.stderr) == (1, True)
    rows = orjson.loads(token(run, config, "list", json=True).stdout)
    assert [(it["name"], it["state"], bool(it["revoked"])) for it in rows] == [
        ("ann", "revoked", True),
        ("bob", "valid", False),
    ]


def test_without_tokens_the_way_to_the_first_is_told(run, config):
    assert "no tokens yet: fusebox token create" in token(run, config, "list").stderr
    assert token(run, config, "list", json=True).stdout == "[]\n"


def test_a_token_as_json_stands_alone_on_the_last_line(run, config):
    result = token(run, config, "create", "--role", "viewer", "--name", "ann", "--ttl", "1h", json=True)
    made = orjson.loads(result.stdout)
    assert made.keys() == {"name", "role", "expires", "token"}
    assert isinstance(TokenFile(config.parent / "var" / "tokens.json").verify(made["token"]), Principal)
    assert orjson.loads(token(run, config, "revoke", "--name", "ann", json=True).stdout)["revoked"] is True


def spooled(config):
    reader = SpoolReader(config.parent / "var" / "spool")
    found = [parse(entry) for name in reader.files() for entry in reader.read(name, 0, 100).entries]
    return sorted(found, key=lambda it: it.at)  # files of the same second have no order


def test_tokens_made_and_revoked_stand_in_the_spool_first(run, config):
    token(run, config, "create", "--role", "viewer", "--name", "ann", "--reason", "new here")
    token(run, config, "revoke", "--name", "ann", "--reason", "gone")
    made, revoked = spooled(config)
    assert (made.action, made.outcome, made.actor, made.target) == ("token.create", "accepted", "cli", "ann")
    assert (made.after["role"], made.reason) == ("viewer", "new here")
    assert (revoked.action, revoked.reason, bool(revoked.after["revoked"])) == ("token.revoke", "gone", True)
    text = (config.parent / "var" / "tokens.json").read_text()
    assert orjson.loads(text)["tokens"][0]["sha256"] not in str(spooled(config))


def test_a_token_that_cannot_be_recorded_is_not_made(run, config):
    (config.parent / "var").mkdir()
    (config.parent / "var" / "spool").write_text("in the way")
    result = token(run, config, "create", "--role", "viewer", "--name", "ann")
    assert result.exit_code == 1
    assert "spool" in result.stderr
    assert TokenFile(config.parent / "var" / "tokens.json").records() == ()


def test_a_token_that_was_recorded_and_could_not_be_kept_is_recorded_as_failed(run, config, monkeypatch):
    def full(*_):
        raise StoreError("no space left on device")

    monkeypatch.setattr("proxy.storage.tokens.atomic.replace", full)
    result = token(run, config, "create", "--role", "viewer", "--name", "ann")
    assert (result.exit_code, result.stderr) == (1, "Error: no space left on device\n")
    assert [(it.action, it.outcome) for it in spooled(config)] == [
        ("token.create", "accepted"),
        ("token.create", "failed"),
    ]


def test_a_second_token_of_a_name_is_refused(run, config):
    run("token", "create", "--role", "viewer", "--name", "ann", "--config", config)
    result = run("token", "create", "--role", "viewer", "--name", "ann", "--config", config)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: a token named 'ann' exists")


@pytest.mark.parametrize(
    "words",
    [
        ("token", "create", "--role", "king", "--name", "x"),
        ("token", "create", "--role", "viewer"),
        ("token", "create", "--role", "viewer", "--name", " "),
        ("token", "create", "--role", "viewer", "--name", "a\nb"),
        ("token", "create", "--role", "viewer", "--name", "oidc:ann"),
        ("token", "create", "--role", "viewer", "--name", "a", "--ttl", "90"),
        ("token", "create", "--role", "viewer", "--name", "a", "--ttl", "0d"),
        ("token", "create", "--role", "viewer", "--name", "a", "--ttl", "-1d"),
        ("token", "create", "--role", "viewer", "--name", "a", "--ttl", "999999w"),
        ("completion", "tcsh"),
        ("nonsense",),
        ("kill",),
        ("kill", "maybe"),
        ("demo", "--port", "70000"),
        ("demo", "--seconds", "0"),
    ],
)
def test_wrong_usage_exits_2(run, words):
    assert run(*words).exit_code == 2


def _commands(command, words=()):
    yield words
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from _commands(command.get_command(context, name), (*words, name))


WITHOUT_JSON = {
    "serve": "its stdout is the log, JSON lines already",
    "demo": "shows an incident to a person",
    "completion": "prints a program for a shell",
}


def _leaves():
    found = list(_commands(main))
    return [words for words in found if words and not any(it[: len(words)] == words != it for it in found)]


@pytest.mark.parametrize("words", _leaves(), ids=" ".join)
def test_every_command_answers_programs_too(run, words):
    """Or there is a reason why not."""
    assert ("--json" in run(*words, "--help").output) != (" ".join(words) in WITHOUT_JSON)


def test_check_as_json_tells_every_problem_with_its_place(run, config):
    good = run("check", "--config", config, "--json")
    assert orjson.loads(good.stdout)["ok"] is True
    config.write_text(config.read_text() + '[listen]\nadress = ""\n[admin]\naddress = "x"\n')
    bad = run("check", "--config", config, "--json")
    assert bad.exit_code == 2
    assert [(it["path"], bool(it["hint"])) for it in orjson.loads(bad.stdout)["problems"]] == [
        ("listen.adress", True),
        ("admin.address", False),
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_program_for_the_shell_that_asks_us(run, shell):
    result = run("completion", shell)
    assert result.exit_code == 0
    assert f"_FUSEBOX_COMPLETE={shell}_complete" in result.stdout


def test_completion_knows_commands_and_their_options(run):
    asked = {"_FUSEBOX_COMPLETE": "bash_complete", "COMP_WORDS": "fusebox token cr", "COMP_CWORD": "2"}
    assert run(env=asked).stdout == "plain,create\n"
    asked |= {"COMP_WORDS": "fusebox kill --re", "COMP_CWORD": "2"}
    assert run(env=asked).stdout == "plain,--reason\n"


@pytest.mark.parametrize("words", list(_commands(main)), ids=" ".join)
def test_every_command_has_help(run, words):
    result = run(*words, "--help")
    assert result.exit_code == 0
    assert re.search(r"\n\n  \S.{10}", result.output), "a sentence of its own"


def test_all_commands_of_this_slice_are_there():
    found = {" ".join(words) for words in _commands(main)}
    assert found >= {"serve", "check", "demo", "status", "kill", "breaker", "token create", "token list"}


@pytest.mark.parametrize("extra", ["rich", "numpy"])
def test_a_demo_without_its_extra_names_it(run, monkeypatch, extra):
    monkeypatch.delitem(sys.modules, "proxy.demo", raising=False)

    class Lacking:
        def find_spec(self, name, path=None, target=None):
            if name == "proxy.demo":
                raise ModuleNotFoundError(f"No module named {extra!r}", name=extra)

    monkeypatch.setattr(sys, "meta_path", [Lacking(), *sys.meta_path])
    result = run("demo")
    assert result.exit_code == 1
    assert extra in result.stderr
    assert "fusebox[demo]" in result.stderr


@pytest.mark.parametrize("count", ["0", "257", "-1", "two", ""])
def test_a_number_of_workers_that_cannot_be_is_a_usage_error(run, config, count):
    result = run("serve", "--config", config, "--workers", count)
    assert result.exit_code == 2
    assert "--workers" in result.output
