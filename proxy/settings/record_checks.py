"""What a type cannot say about storage, audit log, actions and foreign tokens."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from ipaddress import ip_address
from urllib.parse import urlsplit

from proxy.core.action_paths import Template
from proxy.core.actions import source, statuses
from proxy.core.audit_settings import Action, Audit
from proxy.core.policy import Route
from proxy.settings.checks import METHOD
from proxy.settings.model import Oidc, Storage
from proxy.settings.read import Place, Report, likeness

SCHEMES = ("sqlite", "postgresql", "memory")
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures by a key pair. A shared secret (HS…) would let whoever verifies a token make one (RFC 8725)."""

_ACTION = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
_ORIGIN = re.compile(r"[!-*,-~]{1,128}")  # C2SP signed-note: no space, no plus
_SOURCES = ("actor", "subject", "target", "before", "after", "reason")
_SECRET = {
    ("header", b"authorization"),
    ("header", b"proxy-authorization"),
    ("header", b"cookie"),
    ("answer", b"set-cookie"),
}


def storage(storage: Storage, report: Report) -> None:
    """Never repeats the url, which may hold a password."""
    place = ("storage", "url")
    scheme, colon, rest = storage.url.partition("://")
    if not colon or scheme not in SCHEMES:
        hint = "sqlite:///var/fusebox.db, postgresql://user@host/name or memory://"
        report.add(place, "should begin with sqlite:///, postgresql:// or memory://", hint)
    elif scheme == "sqlite" and (not rest.startswith("/") or rest.strip("/") == "" or rest.endswith("/")):
        report.add(place, "names no file", "three slashes and a path: sqlite:///var/fusebox.db")
    elif scheme == "sqlite" and re.search(r"[?#]", rest):
        report.add(place, "takes no options", "end it behind the file's name")
    elif scheme == "postgresql" and not _database(storage.url):
        report.add(place, "names no database", "postgresql://user@host:5432/name")
    elif scheme == "memory" and rest:
        report.add(place, "should be memory:// alone")


def _database(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.path.strip("/")) and parts.port != 0
    except ValueError:
        return False


def audit(audit: Audit, report: Report) -> None:
    if not _ORIGIN.fullmatch(audit.origin):
        report.add(("audit", "origin"), "is no name for a log", "like fusebox or example.org/fusebox")
    size = audit.segment_entries
    if size & (size - 1):
        lower = 1 << (size.bit_length() - 1)
        report.add(("audit", "segment_entries"), "is no power of two", f"{lower} or {lower * 2}")
    for index, sink in enumerate(audit.checkpoint_to):
        kind, _, rest = sink.partition(":")
        place = ("audit", "checkpoint_to", index)
        if kind in ("http", "https"):
            _url(sink, place, report, loopback_only=False)
        elif sink != "stdout" and not (kind == "file" and rest):
            report.add(place, "is nowhere to send to", "file:PATH, https://… or stdout")


def actions(actions: Mapping[int, Action], routes: Mapping[int, Route], report: Report) -> None:
    """Both by their index in the file."""
    forward = {route.name: route for route in routes.values() if route.kind == "forward"}
    others = {route.name for route in routes.values()} - forward.keys()
    for index, action in actions.items():
        place: Place = ("audit", "actions", index)
        if not _ACTION.fullmatch(action.action) or len(action.action) > 48:
            report.add(
                (*place, "action"), f"{action.action!r} is no name", "like login or plan.change, at most 48"
            )
        if action.route in others:
            report.add((*place, "route"), "is a recommend route, which has no actions")
        elif action.route and action.route not in forward:
            report.add((*place, "route"), "there is no such route", likeness(action.route, forward))
        names: list[str] | None = None
        try:
            template = Template(action.path)
        except ValueError as error:
            report.add((*place, "path"), str(error), "for example /account/{target}/plan")
        else:
            names = template.names
            below = [forward[action.route]] if action.route in forward else list(forward.values())
            if action.route not in others and not any(template.reaches(route.path) for route in below):
                report.add((*place, "path"), "is below no forward route, so this rule would do nothing")
        for at, method in enumerate(action.methods):
            if not METHOD.fullmatch(method):
                report.add((*place, "methods", at), f"{method!r} is no method", "in upper case")
        for at, status in enumerate(action.status):
            try:
                statuses([status])
            except ValueError as error:
                report.add((*place, "status", at), str(error))
        for field in _SOURCES:
            _sources(getattr(action, field), names, (*place, field), report)


def _sources(specs: Sequence[str], captured: Sequence[str] | None, place: Place, report: Report) -> None:
    for index, spec in enumerate(specs):
        where = (*place, index)
        try:
            found = source(spec)
        except ValueError as error:
            report.add(where, f"{spec!r} {error}")
            continue
        name = found.name.decode()
        if found in _SECRET:
            report.add(where, f"{spec} would write credentials into the log")
        elif found.kind == "path" and captured is not None and name not in captured:
            report.add(where, f"the path has no {{{name}}}", likeness(name, captured))


def oidc(oidc: Oidc, report: Report) -> None:
    default = Oidc()
    if not oidc.issuer:
        for name in (each.name for each in fields(oidc)):
            if getattr(oidc, name) != getattr(default, name):
                report.add(("oidc", name), "does nothing without oidc.issuer")
        return
    _url(oidc.issuer, ("oidc", "issuer"), report, loopback_only=True)
    if oidc.jwks_url:
        _url(oidc.jwks_url, ("oidc", "jwks_url"), report, loopback_only=True)
    for field in ("audience", "role_claim", "name_claim"):
        if not getattr(oidc, field):
            report.add(("oidc", field), "is missing", "a token for somebody else must not open this door")
    if not oidc.roles:
        report.add(("oidc", "roles"), "is empty, so nobody could do anything", '{ "sre" = "commander" }')
    if not oidc.algorithms:
        report.add(("oidc", "algorithms"), "is empty", "RS256 or ES256")
    for index, algorithm in enumerate(oidc.algorithms):
        if algorithm not in ALGORITHMS:
            report.add(
                ("oidc", "algorithms", index),
                f"{algorithm!r} is not accepted: none and shared secrets (HS…) never are",
                f"there are: {', '.join(ALGORITHMS)}",
            )


def _url(url: str, place: Place, report: Report, *, loopback_only: bool) -> None:
    """A whole http url; plain http `loopback_only` where what comes back decides who may do what."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, 0
    if not host or port == 0 or not url.isprintable() or " " in url or parts.scheme not in ("http", "https"):
        report.add(place, "is no https:// url")
    elif "@" in parts.netloc:
        report.add(place, "should carry no user name or password")
    elif loopback_only and parts.scheme == "http" and not _loopback(host):
        report.add(place, "should begin with https://", "http:// is for this machine only")


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
