"""The image's settings are the shipped ones with what a container needs, and nothing of them is elsewhere."""

import re
import subprocess
from pathlib import Path

from proxy.core.store_url import parse
from proxy.settings import load

PROJECT = Path(__file__).parents[2]
STATE = Path("/var/lib/fusebox")


def test_all_that_is_written_in_the_image_is_in_its_volume(tmp_path):
    """The container's user owns nothing else; and who publishes a port reaches what listens behind it."""
    dockerfile = (PROJECT / "Dockerfile").read_text()
    assert f"VOLUME {STATE}\n" in dockerfile
    for file in (PROJECT / "config").glob("*.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = tmp_path / "fusebox.toml"
    edits = re.findall(r"-e '([^']*)'", dockerfile)
    subprocess.run(["sed", "-i", *(f"-e{edit}" for edit in edits), str(config)], check=True)
    settings = load(config, {})
    assert [settings.listen.address, settings.admin.address] == ["0.0.0.0:8080", "0.0.0.0:8081"]
    assert settings.state_directory == STATE
    assert Path(parse(settings.storage.url).path).is_relative_to(STATE)
    assert not re.search(r'^[^#]*"(?:sqlite:///)?var\b', config.read_text(), re.MULTILINE)
