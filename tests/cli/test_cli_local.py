"""Commands that work on files: check, token, demo, and help on every level."""

import re
import sys

import pytest

from proxy.cli import main
from proxy.core.roles import Principal, Role
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


def test_tokens_are_listed_without_their_secret_and_revoked(run, config):
    token = run("token", "create", "--role", "viewer", "--name", "ann", "--config", config).stdout.strip()
    listed = run("token", "list", "--config", config)
    assert listed.stdout.startswith("ann\tviewer\t20")
    assert token not in listed.output
    assert run("token", "revoke", "--name", "ann", "--config", config).exit_code == 0
    assert run("token", "revoke", "--name", "ann", "--config", config).exit_code == 1
    assert "no tokens yet" in run("token", "list", "--config", config).stderr


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
    for name, each in getattr(command, "commands", {}).items():
        yield from _commands(each, (*words, name))


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
