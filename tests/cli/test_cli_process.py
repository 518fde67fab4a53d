"""The command as a process of its own: the exit codes that a shell sees."""

import os
import subprocess
import sys

import proxy


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
