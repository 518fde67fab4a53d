"""`docs/settings.md` names every setting with its default and its unit, and none that is not there."""

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from proxy.core.audit_settings import Action
from proxy.core.breaker import BreakerSettings
from proxy.core.candidates import Fields
from proxy.core.experiment import Arm
from proxy.core.policy import Route, Shadow, Sources, Upstream
from proxy.core.rollback.settings import Trigger
from proxy.settings.load import _SECTIONS

PAGE = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
RECORDS = {f"[{name}]": kind for name, kind in _SECTIONS.items()} | {
    "[upstreams.NAME]": Upstream,
    "[upstreams.NAME.fields]": Fields,
    "[upstreams.NAME.breaker]": BreakerSettings,
    "[[routes]]": Route,
    "[routes.shadow]": Shadow,
    "[[audit.actions]]": Action,
    "[[experiment.arms]]": Arm,
    "[[rollback.triggers]]": Trigger,
    "sources of a recommend route": Sources,
}
UNITS = {"_per_s": None, "_ms": "ms", "_s": "s", "_bytes": "bytes", "_rate": "share"}
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.*?) ?\| (.*) ?\|$", re.MULTILINE)


def rows(heading):
    """Setting → (default, unit), as the page has them."""
    _, _, section = PAGE.partition(f"\n## {heading}\n")
    section = section.partition("\n## ")[0]
    return {name: (default, unit) for name, default, unit, _ in ROW.findall(section)}


def written(field):
    """The default of a field as the page has to read."""
    if field.default_factory is not dataclasses.MISSING:
        return "table"
    if field.default is dataclasses.MISSING:
        return "required"
    if field.default is None:
        return "none"
    if isinstance(field.default, tuple) and any(map(dataclasses.is_dataclass, field.default)):
        return "table"
    return list(field.default) if isinstance(field.default, tuple) else field.default


def read(cell):
    return tomllib.loads(f"x = {cell.strip('`')}")["x"] if cell.startswith("`") else cell


def test_every_section_has_its_heading_and_no_other_is_there():
    headings = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert headings == list(dict.fromkeys(headings))
    assert set(headings) == set(RECORDS)


@pytest.mark.parametrize("heading", RECORDS)
def test_settings_and_defaults_are_those_of_the_code(heading):
    told = {name: read(default) for name, (default, _) in rows(heading).items()}
    assert told == {field.name: written(field) for field in dataclasses.fields(RECORDS[heading])}


@pytest.mark.parametrize("heading", RECORDS)
def test_units_are_those_in_the_names(heading):
    for name, (_, unit) in rows(heading).items():
        named = next((UNITS[ending] for ending in UNITS if name.endswith(ending)), None)
        assert named in (None, unit), name
