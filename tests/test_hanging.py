"""The tests' own time limit."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_test_that_hangs_in_the_loop_is_ended(tmp_path):
    """A signal would not reach it: uvloop keeps Python from running its handler."""
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(
        "import asyncio\n\n\nasync def test_it():\n    await asyncio.Event().wait()\n"
    )
    # the thread of pytest-timeout ends the process at once, so nothing of it is left to wait for
    options = ("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), "--timeout", "0.5")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)])},  # its fixtures'
    )
    assert done.returncode == 1
    assert "Timeout" in done.stdout + done.stderr
