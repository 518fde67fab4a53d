"""What the settings point to: the popularity list, the toggles document, files of certificates."""

import ssl
from collections.abc import Callable, Collection
from pathlib import Path

from proxy.core.policy import Film
from proxy.core.toggles import Toggles
from proxy.core.toggles_document import read_document
from proxy.core.warm_list import NoWarmList, read_warm_list
from proxy.settings.read import Place, Report, likeness, read_json, record

MOST_PROBLEMS = 20
"""How many faults of one file are told: its entries tend to share theirs."""


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
    _take_over(own, report)
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


def toggles(path: Path, flags: Collection[str], report: Report) -> tuple[Toggles, str]:
    """The toggles document (contract) and its environment; `flags` are the names that routes ask for."""
    raw = read_json(path)
    found, faults = read_document(raw, flags)
    own = Report(path)
    for fault in faults:
        hint = fault.hint or (likeness(str(fault.place[-1]), fault.known) if fault.known else "")
        own.add(fault.place, fault.message, hint)
    _take_over(own, report)
    return found, "" if faults else raw.get("metadata", {}).get("environment", "")


def warm_list(path: Path, refuses: Callable[[bytes], str], report: Report) -> None:
    """The warm list, which is read again when it is used; `refuses` says why no route takes a query."""
    own = Report(path)
    try:
        for index, query in enumerate(read_warm_list(path.read_bytes())):
            if why := refuses(query):
                own.add((index,), f"no route takes it: {why}")
    except OSError as error:
        own.add((), f"cannot be read: {error.strerror or error}")
    except NoWarmList as error:
        own.add((), str(error))
    _take_over(own, report)


def _take_over(own: Report, report: Report) -> None:
    """The problems of one file, as many as are worth telling."""
    report.problems += own.problems[:MOST_PROBLEMS]
    if len(own.problems) > MOST_PROBLEMS:
        report.add((), f"{len(own.problems) - MOST_PROBLEMS} more problems")
