"""What the settings point to: the popularity list, the toggles document, files of certificates."""

import ssl
from collections.abc import Collection
from pathlib import Path
from typing import Any

from proxy.core.policy import Film, Toggles
from proxy.settings.read import Place, Report, likeness, read_json, record

MOST_PROBLEMS = 20
"""How many faults of one popularity list are told: its entries tend to share theirs."""

_LATER = (
    "alpha_override",
    "policy_mode",
    "disable_cf",
    "disable_content",
    "candidate_fallback_level",
    "exposure_percent",
    "cache_mode",
    "experiment_freeze",
    "region_scope",
    "cohort_scope",
    "client_scope",
)
_METADATA: dict[str, type] = {
    "version": int,
    "environment": str,
    "updated_by": str,
    "updated_at": str,
    "reason": str,
}
_ARRIVES = "arrives with the toggle catalogue"


def popularity(path: Path, report: Report) -> tuple[Film, ...]:
    """`[{"id", "title", "year", "genres", "providers", "score"}, …]`, best score first."""
    raw = read_json(path)
    if not isinstance(raw, list) or not raw:
        report.add((), "should be a list with at least one film")
        return ()
    own = Report(path)
    films: dict[str, tuple[int, Film]] = {}
    for index, each in enumerate(raw):
        film = record(Film, each, (index,), own)
        if film is None:
            continue
        for field in ("id", "title"):
            if not getattr(film, field):
                own.add((index, field), "is empty")
        first, _ = films.setdefault(film.id, (index, film))
        if first != index:
            own.add((index, "id"), f"{film.id!r} is the id of [{first}] already")
    report.problems += own.problems[:MOST_PROBLEMS]
    if len(own.problems) > MOST_PROBLEMS:
        report.add((), f"{len(own.problems) - MOST_PROBLEMS} more problems")
    return tuple(sorted((film for _, film in films.values()), key=lambda film: -film.score))


def authorities(path: Path, place: Place, report: Report) -> str:
    """The text of a PEM file that holds at least one certificate."""
    try:
        text = path.read_text("ascii", "ignore")  # comments may be anything
        ssl.create_default_context(cadata=text or "nothing")
    except ssl.SSLError:
        report.add(place, f"{path} holds no certificate", "PEM is expected")
    except OSError as error:
        report.add(place, f"{path} cannot be read: {error.strerror}")
    else:
        return text
    return ""


def toggles(path: Path, flags: Collection[str], report: Report) -> Toggles:
    """The toggles document (contract); `flags` are the names that routes ask for."""
    raw = read_json(path)
    if not isinstance(raw, dict):
        report.add((), "should be an object with metadata, toggles, rules and flags")
        return Toggles()
    known = {"metadata": dict, "toggles": dict, "rules": list, "flags": dict}
    for key in raw.keys() - known.keys():
        report.add((key,), "unknown key", likeness(key, [*known]))
    metadata, chosen, rules, switched = (
        _of(kind, raw.get(key, kind()), (key,), report) or kind() for key, kind in known.items()
    )
    version = _version(metadata, report)
    kill = False
    for key, value in chosen.items():
        if key == "kill_switch":
            kill = _of(bool, value, ("toggles", key), report) or False
        elif key in _LATER:
            report.add(("toggles", key), f"cannot be set yet: it {_ARRIVES}")
        else:
            report.add(("toggles", key), "unknown toggle", likeness(key, ["kill_switch", *_LATER]))
    if rules:
        report.add(("rules",), f"cannot be set yet: they {_ARRIVES.replace('arrives', 'arrive')}")
    for flag, on in switched.items():
        _of(bool, on, ("flags", flag), report)
        if flag not in flags:
            report.add(("flags", flag), "no route has this flag", likeness(flag, [*flags]))
    return Toggles(version=version, kill_switch=kill, flags=dict(switched))


def _version(metadata: dict[str, Any], report: Report) -> int:
    for key, value in metadata.items():
        if key not in _METADATA:
            report.add(("metadata", key), "unknown key", likeness(key, [*_METADATA]))
        else:
            _of(_METADATA[key], value, ("metadata", key), report)
    version = metadata.get("version", 1)
    if isinstance(version, int) and version < 1:
        report.add(("metadata", "version"), "should be 1 or more")
    return version if isinstance(version, int) else 1


def _of(kind: type, value: Any, place: Place, report: Report) -> Any:
    """`value` if it is of this very type; a bool is no int here."""
    if type(value) is kind:
        return value
    names = {dict: "an object", list: "a list", bool: "true or false", int: "a whole number", str: "text"}
    report.add(place, f"should be {names[kind]}")
    return None
