"""`docs/architecture.md` shows every room of the tree, and none that is not there."""

import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_the_rooms_are_those_of_the_tree():
    shown = re.findall(r"`(proxy/[\w/]+\.py)`", (PROJECT / "docs" / "architecture.md").read_text())
    modules = {
        str(path.relative_to(PROJECT))
        for path in (PROJECT / "proxy").rglob("*.py")
        if path.name != "__init__.py" or path.parent.name == "ports"
    }
    assert len(shown) == len(set(shown))
    assert set(shown) == modules
