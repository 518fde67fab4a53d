"""The command as a process of its own: the exit codes that a shell sees."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import proxy
from proxy.core.roles import Role
from proxy.storage.sqlite import SqliteStore
from proxy.storage.tokens import TokenFile


def fusebox(*words, **env):
    return subprocess.run(
        [sys.executable, "-m", "proxy", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
        check=False,
    )


def test_exit_codes_and_names(config):
    version = fusebox("--version")
    assert (version.returncode, version.stdout) == (0, f"fusebox, version {proxy.__version__}\n")
    assert fusebox("check", "--config", config).returncode == 0
    config.write_text('[[routes]]\nname = "${UNSET_IN_THIS_TEST}"\n')
    faulty = fusebox("check", FUSEBOX_CONFIG=str(config))
    assert faulty.returncode == 2
    assert "UNSET_IN_THIS_TEST is not set" in faulty.stderr
    assert "Traceback" not in faulty.stderr
    assert fusebox("serve", "--config", config).returncode == 2


def shell(redirection, *words, **env):
    """As `fusebox` does above, with stdout as a shell redirects it, and buffered as it usually is."""
    return subprocess.run(
        ["bash", "-c", f'"$@" {redirection}', "bash", sys.executable, "-m", "proxy", *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONUNBUFFERED": "", **env},
        check=False,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(("redirection", "cause"), [(">/dev/full", "No space left"), (">&-", "is closed")])
def test_a_token_that_cannot_be_shown_is_revoked(config, redirection, cause):
    ended = shell(redirection, "token", "create", "--role", "viewer", "--name", "ann", "--config", config)
    assert ended.returncode == 1
    assert cause in ended.stderr
    assert "was revoked" in ended.stderr
    assert ended.stderr.count("\n") == 2, "what was about to be shown, and why it was not: once"
    assert "Traceback" not in ended.stderr
    assert TokenFile(config.parent / "var" / "tokens.json").records() == ()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(
    "words",
    [("--help",), ("--version",), ("token", "create", "--help"), ("check",), ("token", "list")],
    ids=" ".join,
)
def test_output_that_cannot_be_written_is_one_line_and_exit_1(config, words):
    TokenFile(config.parent / "var" / "tokens.json").create("ann", Role.VIEWER)
    ended = shell(">/dev/full", *words, FUSEBOX_CONFIG=str(config))
    assert ended.returncode == 1
    assert ended.stderr == "fusebox: stdout cannot be written: No space left on device\n"


def test_a_reader_that_has_seen_enough_is_no_fault_to_tell():
    ended = shell("| true", "--help")
    assert "Traceback" not in ended.stderr
    assert "Exception" not in ended.stderr


def test_serve_without_a_stdout_says_so(config):
    ended = shell(">&-", "serve", "--config", config)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith("fusebox: stdout is closed")


def test_an_export_without_a_stdout_says_so(config):
    SqliteStore(config.parent / "var" / "fusebox.db").close()
    ended = shell(">&-", "audit", "export", "--config", config)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith("Error: stdout is closed")
