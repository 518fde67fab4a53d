"""`docs/architecture.md` shows every room of the tree, and none that is not there."""

import re
from collections import Counter
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


def test_no_two_test_files_have_one_name():
    """pytest imports them by their names alone, and would refuse the second of two."""
    names = Counter(path.name for path in (PROJECT / "tests").rglob("test_*.py"))
    assert [name for name, times in names.items() if times > 1] == []
