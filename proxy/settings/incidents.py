"""Incident files for `fusebox simulate`: read as strictly as settings, every mistake told at once."""

from collections.abc import Mapping
from dataclasses import replace
from math import inf, prod
from pathlib import Path
from typing import Any

from proxy.core.rollback.settings import RollbackSettings
from proxy.core.rollback.signals import MAX_CELLS
from proxy.core.simulation.incident import Expect, Fault, Incident, Traffic, Usual
from proxy.errors import SettingsError
from proxy.settings.read import Place, Report, fill, likeness, read_toml, record
from proxy.settings.rollback_checks import rollback

_SECTIONS: Mapping[str, type[Any]] = {
    "traffic": Traffic,
    "usual": Usual,
    "rollback": RollbackSettings,
    "expect": Expect,
}
_OF_SHAPE = {"rise_s": "ramp", "on_s": "pulses", "off_s": "pulses"}
_OF_KIND = {"add_ms": "latency", "hang_s": "hang", "lost": "coverage", "critical": "critical"}
_SOURCES = ("cf", "content", "control")
_NAMED = ("regions", "cohorts", "clients")


def load_incident(path: Path) -> Incident:
    """What the file describes; SettingsError holds every problem in it."""
    report = Report(path)
    raw = fill(read_toml(path), {}, report)
    own = {key: value for key, value in raw.items() if key not in {*_SECTIONS, "faults"}}
    incident = record(Incident, own, (), report) or Incident(title="-", seconds=inf)
    if isinstance(raw.get("rollback"), dict):
        raw["rollback"].setdefault("mode", "act")
    found = {
        name: section
        for name, kind in _SECTIONS.items()
        if name in raw and (section := record(kind, raw[name], (name,), report)) is not None
    }
    listed = raw.get("faults", [])
    if not isinstance(listed, list):
        report.add(("faults",), "should be an array of tables", "write [[faults]]")
        listed = []
    faults = {
        at: fault
        for at, each in enumerate(listed)
        if (fault := record(Fault, each, ("faults", at), report)) is not None
    }
    incident = replace(incident, faults=tuple(faults.values()), **found)
    rollback(incident.rollback, _SOURCES, report)
    _usual(incident.usual, report)
    _traffic(incident.traffic, raw.get("traffic", {}), report)
    for at, fault in faults.items():
        _fault(fault, listed[at], ("faults", at), incident, report)
    if incident.expect is not None:
        _expect(incident.expect, incident, report)
    if report.problems:
        raise SettingsError(report.problems)
    return incident


def _usual(usual: Usual, report: Report) -> None:
    if usual.p95_ms <= usual.median_ms:
        report.add(("usual", "p95_ms"), "should be more than median_ms")


def _traffic(traffic: Traffic, raw: Any, report: Report) -> None:
    for field in ("swing", "day_s") if isinstance(raw, dict) else ():
        if field in raw and traffic.shape != "diurnal":
            report.add(("traffic", field), f"does nothing on {traffic.shape} traffic", 'shape = "diurnal"')
    parts = prod(len(getattr(traffic, field)) or 1 for field in _NAMED)
    most = MAX_CELLS // 4  # each is exposed, control, staged and recovered
    if parts > most:
        report.add(("traffic",), f"has {parts} combinations of region, cohort and client", f"at most {most}")


def _fault(fault: Fault, raw: Mapping[str, Any], place: Place, incident: Incident, report: Report) -> None:
    """A field that would do nothing is refused rather than ignored."""
    for fields, kind, named in ((_OF_SHAPE, fault.shape, "shape"), (_OF_KIND, fault.kind, "kind")):
        for field, of in fields.items():
            if field in raw and kind != of:
                report.add((*place, field), f"does nothing on a fault of {named} {kind}", f"it is of {of}")
    if fault.from_s >= incident.seconds:
        report.add((*place, "from_s"), f"is after the end, at {incident.seconds:g} s")
    if fault.until_s is not None and fault.until_s <= fault.from_s:
        report.add((*place, "until_s"), "is not after from_s")
    if "control" in {fault.source, fault.side} and not incident.traffic.control_upstream:
        field = "source" if fault.source == "control" else "side"
        report.add((*place, field), "control is asked by nobody", "traffic.control_upstream is false")
    _names(fault, place, incident.traffic, report)


def _names(it: Fault | Expect, place: Place, traffic: Traffic, report: Report) -> None:
    for field in _NAMED:
        known = getattr(traffic, field)
        for at, name in enumerate(getattr(it, field)):
            if name not in known:
                hint = likeness(name, known) if known else f"traffic.{field} names none"
                report.add((*place, field, at), f"nobody is of {name!r}", hint)


def _expect(expect: Expect, incident: Incident, report: Report) -> None:
    place: Place = ("expect",)
    _names(expect, place, incident.traffic, report)
    if not expect.acts:
        for field in ("within_s", *_NAMED):
            if getattr(expect, field):
                report.add((*place, field), "says when or for whom, and acts says never")
    if not incident.faults:
        for field in ("within_s", "detected_within_s"):
            if getattr(expect, field) is not None:
                report.add((*place, field), "counts from the first fault, and there is none")
    if expect.recovered_within_s is not None and incident.over is None:
        report.add(
            (*place, "recovered_within_s"), "counts from the end of the last fault, and it does not end"
        )
