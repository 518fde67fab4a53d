"""Assembles `Settings` from the files, or raises `SettingsError` with all that is wrong in them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from proxy.clock import wall
from proxy.core.audit_settings import Action, Audit
from proxy.core.cache import CacheSettings, WarmList
from proxy.core.events import EventsSettings
from proxy.core.experiment import Experiment
from proxy.core.flaps import FlapBudget
from proxy.core.identity import IdentityReader
from proxy.core.override import Overrides
from proxy.core.policy import Deadlines, Film, Identity, Limits, Route, Upstream
from proxy.core.rollback.settings import RollbackSettings
from proxy.core.toggles import Toggles
from proxy.core.warm_list import refusal_of
from proxy.errors import SettingsError
from proxy.settings import checks, files, record_checks, rollback_checks
from proxy.settings.model import (
    Admin,
    Listen,
    Log,
    Oidc,
    PopularityFile,
    Settings,
    State,
    Storage,
    TogglesFile,
)
from proxy.settings.read import Place, Report, fill, likeness, read_toml, record

T = TypeVar("T")
K = TypeVar("K", str, int)

_SECTIONS: dict[str, type[Any]] = {
    "listen": Listen,
    "admin": Admin,
    "state": State,
    "storage": Storage,
    "audit": Audit,
    "oidc": Oidc,
    "identity": Identity,
    "limits": Limits,
    "deadlines": Deadlines,
    "log": Log,
    "events": EventsSettings,
    "cache": CacheSettings,
    "popularity": PopularityFile,
    "toggles": TogglesFile,
    "experiment": Experiment,
    "flaps": FlapBudget,
    "overrides": Overrides,
    "rollback": RollbackSettings,
}


def load(path: Path, env: Mapping[str, str]) -> Settings:
    """The settings in `path` with what they point to; `env` fills `${NAME}`.

    Paths inside are relative to the file. SettingsError holds every problem in it, in the
    popularity list and in the toggles document.
    """
    report = Report(path)
    raw = fill(read_toml(path), env, report)
    for key in raw.keys() - _SECTIONS.keys() - {"upstreams", "routes"}:
        report.add((key,), "unknown section", likeness(key, [*_SECTIONS, "upstreams", "routes"]))
    recognised = _actions(raw, report)
    sections = {name: _section(kind, raw, name, report) for name, kind in _SECTIONS.items()}
    actions = _records(Action, enumerate(recognised), ("audit", "actions"), report)
    sections["audit"] = replace(sections["audit"], actions=tuple(actions.values()))
    named = _table(raw, "upstreams", report)
    listed = _array(raw, "routes", report)
    upstreams = _records(Upstream, named.items(), ("upstreams",), report)
    routes = _records(Route, enumerate(listed), ("routes",), report)

    checks.doors(sections["listen"], sections["admin"], report)
    checks.identity(sections["identity"], report)
    checks.experiment(sections["experiment"], report)
    checks.overrides(sections["overrides"], report)
    rollback_checks.rollback(sections["rollback"], named, report)
    base = path.parent
    authorities: dict[str, str] = {}
    for name in named:
        checks.name(name, ("upstreams", name), report)
    for name, upstream in upstreams.items():
        upstreams[name] = replace(upstream, ca_file=str(base / upstream.ca_file) if upstream.ca_file else "")
        checks.upstream(upstreams[name], ("upstreams", name), report)
        if (file := upstreams[name].ca_file) and upstreams[name].urls[0].startswith("https:"):
            authorities[file] = files.authorities(Path(file), ("upstreams", name, "ca_file"), report)
    checks.routes(routes, listed, named, report)
    checks.cache(sections["cache"], report)
    checks.events(sections["events"], "events" in raw, report)
    record_checks.storage(sections["storage"], report)
    record_checks.audit(sections["audit"], report)
    record_checks.actions(actions, routes, report)
    record_checks.oidc(sections["oidc"], report)

    films, (toggles, environment) = _pointed_to(sections, base, listed, report)
    warm = None
    if file := sections["cache"].warm_file:
        warm = WarmList(file=str(base / file), read_at=wall())
        refuses: Callable[[bytes], str] = lambda _: ""  # noqa: E731 - unless routes and identity are in order
        if not report.problems:
            identity = IdentityReader(sections["identity"])
            refuses = partial(refusal_of, routes=routes.values(), identity=identity)
        _read(lambda path, own: files.warm_list(path, refuses, own), base / file, report)
    if report.problems:
        raise SettingsError(report.problems)
    del sections["popularity"], sections["toggles"]
    return Settings(
        file=path,
        upstreams=upstreams,
        authorities=authorities,
        routes=tuple(routes.values()),
        popularity=films,
        toggles=toggles,
        environment=environment,
        warm=warm,
        **sections,
    )


def state_directory(path: Path, env: Mapping[str, str]) -> Path:
    """Where the state is kept, whatever else is wrong in the file: tokens can be made beforehand.

    SettingsError when just this cannot be told.
    """
    state: State = _alone(State, "state", path, env)
    return path.parent / state.directory


def storage(path: Path, env: Mapping[str, str]) -> Storage:
    """Which store, whatever else is wrong in the file: it can be restored before that is mended.

    SettingsError when just this cannot be told.
    """
    return _alone(Storage, "storage", path, env)


def events(path: Path, env: Mapping[str, str]) -> tuple[EventsSettings, Path]:
    """The settings of the event log and its directory, whatever else is wrong in the file.

    SettingsError when just this cannot be told, or there is none.
    """
    found = _alone(EventsSettings, "events", path, env, lambda it, report: checks.events(it, True, report))
    return found, path.parent / found.directory


def overrides(path: Path, env: Mapping[str, str]) -> Overrides:
    """What may be overridden, whatever else is wrong in the file.

    SettingsError when just this cannot be told.
    """
    return _alone(Overrides, "overrides", path, env, checks.overrides)


def _alone(
    kind: type[T],
    name: str,
    path: Path,
    env: Mapping[str, str],
    check: Callable[[T, Report], None] = lambda *_: None,
) -> T:
    report = Report(path)
    raw = read_toml(path)
    found = _section(kind, fill({name: raw.get(name, {})}, env, report), name, report)
    check(found, report)
    if report.problems:
        raise SettingsError(report.problems)
    return found


def _pointed_to(
    sections: Mapping[str, Any], base: Path, routes: Sequence[Any], report: Report
) -> tuple[tuple[Film, ...], tuple[Toggles, str]]:
    """What the other files hold; `routes` as they stand in the file, readable or not."""
    tables = [route for route in routes if isinstance(route, dict)]
    films: tuple[Film, ...] = ()
    toggles = Toggles(), ""
    if file := sections["popularity"].file:
        films = _read(files.popularity, base / file, report) or ()
    elif any(route.get("kind") == "recommend" for route in tables):
        report.add(("popularity", "file"), "is missing: recommend routes fall back on this list")
    if file := sections["toggles"].file:
        flags = {flag for route in tables if isinstance(flag := route.get("flag"), str)}
        toggles = _read(lambda path, own: files.toggles(path, flags, own), base / file, report) or toggles
    return films, toggles


def _read(read: Callable[[Path, Report], T], path: Path, report: Report) -> T | None:
    """What `read` makes of a file, its problems filed under that file's name."""
    own = Report(path)
    found = None
    try:
        found = read(path, own)
    except SettingsError as error:
        own.problems += error.problems
    report.problems += own.problems
    return found


def _section(kind: type[T], raw: Mapping[str, Any], name: str, report: Report) -> T:
    """A table of the file; where it cannot be read, the defaults stand in for the checks that follow."""
    return record(kind, _table(raw, name, report), (name,), report) or kind()


def _records(kind: type[T], raw: Iterable[tuple[K, Any]], place: Place, report: Report) -> dict[K, T]:
    """Those that can be read, under their key or index in the file."""
    found = ((key, record(kind, each, (*place, key), report)) for key, each in raw)
    return {key: each for key, each in found if each is not None}


def _actions(raw: dict[str, Any], report: Report) -> list[Any]:
    """Take `[[audit.actions]]` out of `raw`: read one by one, a faulty one does not hide the others."""
    if not isinstance(raw.get("audit"), dict):
        return []
    raw["audit"] = dict(raw["audit"])
    listed = raw["audit"].pop("actions", [])
    if isinstance(listed, list):
        return listed
    report.add(("audit", "actions"), "should be an array of tables", "write [[audit.actions]]")
    return []


def _table(raw: Mapping[str, Any], name: str, report: Report) -> dict[str, Any]:
    value = raw.get(name, {})
    if isinstance(value, dict):
        return value
    report.add((name,), "should be a table", f"write [{name}]")
    return {}


def _array(raw: Mapping[str, Any], name: str, report: Report) -> list[Any]:
    value = raw.get(name, [])
    if isinstance(value, list) and value:
        return value
    report.add((name,), "should be an array with at least one table", f"write [[{name}]]")
    return []
