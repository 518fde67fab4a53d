"""A directory with a settings file that is in order, and a way to put faults into it."""

import json

import pytest

from proxy.errors import SettingsError
from proxy.settings import load

GOOD = """
[listen]
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[upstreams.cf]
url = "http://127.0.0.1:9101"
[upstreams.payment]
url = "http://127.0.0.1:9103"
[[routes]]
name = "recommendations"
path = "/recommendations"
kind = "recommend"
sources = { cf = "cf" }
[[routes]]
name = "payment"
path = "/payment/"
upstream = "payment"
flag = "billing"
[popularity]
file = "popularity.json"
[toggles]
file = "toggles.json"
"""


class Folder:
    """The files of one sidecar. `settings`, `films` and `toggles` are written as they are when loading."""

    def __init__(self, directory):
        self.path = directory / "fusebox.toml"
        self.settings = GOOD
        self.films = [film("a", 0.5), film("b", 0.9)]
        self.toggles = {"toggles": {"kill_switch": False}, "flags": {"billing": True}}
        self.env = {}

    def load(self):
        self.path.write_text(self.settings, encoding="utf-8")
        (self.path.parent / "popularity.json").write_text(json.dumps(self.films), encoding="utf-8")
        (self.path.parent / "toggles.json").write_text(json.dumps(self.toggles), encoding="utf-8")
        return load(self.path, self.env)

    def problems(self):
        """What loading complains of, as `{path in the file: message (hint)}`."""
        with pytest.raises(SettingsError) as caught:
            self.load()
        return {it.path: f"{it.message} ({it.hint})" for it in caught.value.problems}

    def add(self, text):
        """More lines at the end of the settings file."""
        self.settings += text

    def swap(self, old, new):
        assert old in self.settings
        self.settings = self.settings.replace(old, new, 1)


def film(name, score):
    return {
        "id": name,
        "title": name.upper(),
        "year": 1999,
        "genres": ["Drama"],
        "providers": [],
        "score": score,
    }


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)
