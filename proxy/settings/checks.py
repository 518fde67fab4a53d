"""What a type cannot say: references, addresses, and fields that contradict each other."""

import re
from collections.abc import Collection, Mapping, Sequence
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from proxy.core.cache import CacheSettings
from proxy.core.events import EventsSettings
from proxy.core.experiment import NO_ARM, Experiment, hundredths
from proxy.core.identity import IdentityReader
from proxy.core.override import OVERRIDABLE, Overrides
from proxy.core.policy import Identity, Route, Upstream
from proxy.core.routing import BUCKETS, SALT
from proxy.core.toggles import BY_NAME
from proxy.core.toggles_document import read_over
from proxy.settings.model import Admin, Listen, split_address
from proxy.settings.read import Place, Report, likeness

RESERVED = "/__fusebox/"
"""Paths of the sidecar itself on the data plane (contract, Headers)."""

MIN_SECRET = 32
"""Characters: who knows the secret may override toggles."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # goes into headers, metrics and API paths
METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Z-]+")  # RFC 9110 5.6.2, upper case
_PATH = re.compile(r"/[!$&'()*+,:=@~\w.%-]*(?:/[!$&'()*+,:=@~\w.%-]+)*/?", re.ASCII)  # RFC 3986 3.3
_LEAST_CACHE = 1024 * 1024
_FORWARD_ONLY = ("upstream", "upgrade", "idempotency_key", "first_byte_ms")
_RECOMMEND_ONLY = ("sources", "k_default", "k_max", "alpha", "deadline_ms")


def name(name: str, place: Place, report: Report) -> None:
    if not _NAME.fullmatch(name):
        report.add(place, f"{name!r} is no name", "letters, digits, '_', '-' and '.', at most 64")


def doors(listen: Listen, admin: Admin, report: Report) -> None:
    places = {("listen", "address"): listen.address, ("admin", "address"): admin.address}
    for place, address in places.items():
        try:
            split_address(address)
        except ValueError as error:
            report.add(place, str(error))
    if listen.address == admin.address and not listen.address.endswith(":0"):
        report.add(("admin", "address"), "is the data plane's own", "give each its port")
    for index, network in enumerate(listen.trusted_proxies):
        try:
            ip_network(network, strict=False)
        except ValueError:
            report.add(("listen", "trusted_proxies", index), "is no network", "for example 10.0.0.0/8")


def identity(identity: Identity, report: Report) -> None:
    for field in ("user", "region", "cohort", "client"):
        for index, spec in enumerate(getattr(identity, field)):
            try:
                IdentityReader(Identity(user=(spec,)))
            except ValueError as error:
                report.add(("identity", field, index), str(error))


def cache(cache: CacheSettings, report: Report) -> None:
    if 0 < cache.max_bytes < _LEAST_CACHE:
        report.add(("cache", "max_bytes"), f"should be {_LEAST_CACHE} or more", "0 means no cache")
    if cache.warm_file and not cache.max_bytes:
        report.add(("cache", "warm_file"), "does nothing without a cache", "max_bytes is 0")


def events(events: EventsSettings, given: bool, report: Report) -> None:  # noqa: FBT001 - whether it is there
    if given and not events.directory:
        report.add(("events", "directory"), "is missing: where should events go?", 'for example "var/events"')


def experiment(experiment: Experiment, report: Report) -> None:
    place: Place = ("experiment",)
    if experiment.name:
        name(experiment.name, (*place, "name"), report)
    if experiment.salted == SALT:
        report.add((*place, "salt"), "is that of exposure", "arms need a draw of their own")
    names: dict[str, int] = {}
    for index, arm in enumerate(experiment.arms):
        where = (*place, "arms", index)
        name(arm.name, (*where, "name"), report)
        first = names.setdefault(arm.name, index)
        if first != index or arm.name == NO_ARM:
            taken = f"the name of arms[{first}]" if first != index else "what is said of no arm"
            report.add((*where, "name"), f"{arm.name!r} is {taken} already")
        if abs(arm.percent * 100 - hundredths(arm.percent)) > 1e-6:
            report.add((*where, "percent"), "is finer than 0.01, which is one bucket")
    if sum(hundredths(arm.percent) for arm in experiment.arms) != BUCKETS:
        report.add((*place, "arms"), "should add up to 100 percent")


def overrides(overrides: Overrides, report: Report) -> None:
    place: Place = ("overrides",)
    for index, toggle in enumerate(overrides.toggles):
        where = (*place, "toggles", index)
        if toggle in BY_NAME and toggle not in OVERRIDABLE:
            report.add(where, f"{toggle} is for everybody and can be in no override")
        elif toggle not in OVERRIDABLE:
            report.add(where, f"there is no toggle {toggle!r}", likeness(toggle, OVERRIDABLE))
    for name in ("alpha", "exposure"):
        if getattr(overrides, f"{name}_min") > getattr(overrides, f"{name}_max"):
            report.add((*place, f"{name}_min"), f"is more than {name}_max")
    for name in ("exposure_min", "exposure_max"):
        if abs(getattr(overrides, name) * 100 - hundredths(getattr(overrides, name))) > 1e-6:
            report.add((*place, name), "is finer than 0.01, which is one bucket")
    if overrides.secret and len(overrides.secret) < MIN_SECRET:
        hint = "for example of  openssl rand -hex 32"
        report.add((*place, "secret"), f"should have at least {MIN_SECRET} characters", hint)


def upstream(upstream: Upstream, place: Place, report: Report) -> None:
    several = not isinstance(upstream.url, str)
    schemes = set()
    for index, url in enumerate(upstream.urls):
        where = (*place, "url", index) if several else (*place, "url")
        try:
            schemes.add(_scheme(url))
        except ValueError as error:
            report.add(where, str(error))
    if len(schemes) > 1:
        report.add((*place, "url"), "mixes http and https", "make them two upstreams")
    if "https" not in schemes:
        for field in ("ca_file", "server_name"):
            if getattr(upstream, field):
                report.add((*place, field), "belongs to https urls only")
    for field in ("candidates_path", "neighbours_path"):
        path = getattr(upstream, field)
        if not _PATH.fullmatch(path) and (path or field == "candidates_path"):
            report.add((*place, field), "should be a path that begins with /")
    for field, path in upstream.fields.paths.items():
        if not all(path.split(".")) and (path or field != "items"):
            report.add((*place, "fields", field), "should be names with a '.' between", 'for example "a.b"')
    if upstream.eject_max_s < upstream.eject_s:
        report.add((*place, "eject_max_s"), "is less than eject_s")


def _scheme(url: str) -> str:
    """The scheme of a usable url; ValueError names the fault, never the url, which may hold a secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("is no url") from None  # its text repeats the host
    if parts.scheme not in {"http", "https"}:
        raise ValueError("should begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("should carry no user name or password")
    if not parts.hostname or not (url.isascii() and url.isprintable()) or " " in url:
        raise ValueError("has no usable host")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError("should have a port from 1 to 65535, or none")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("should end after the port: a request keeps its own path")
    return parts.scheme


def routes(
    routes: Mapping[int, Route], raw: Sequence[Any], upstreams: Collection[str], report: Report
) -> None:
    """`routes` and `raw` by their index in the file; `upstreams` are the names there are."""
    names: dict[str, int] = {}
    paths: dict[str, int] = {}
    for index, route in routes.items():
        place: Place = ("routes", index)
        first = names.setdefault(route.name, index)
        if first != index:
            report.add((*place, "name"), f"{route.name!r} is the name of routes[{first}] already")
        name(route.name, (*place, "name"), report)
        first = paths.setdefault(route.path, index)
        if first != index:
            report.add((*place, "path"), f"{route.path!r} is the path of routes[{first}] already")
        _path(route.path, (*place, "path"), report)
        if route.flag:
            name(route.flag, (*place, "flag"), report)
        for at, method in enumerate(route.methods):
            if not METHOD.fullmatch(method) or method == "CONNECT":
                report.add(
                    (*place, "methods", at), f"{method!r} is no method", "in upper case, never CONNECT"
                )
        for at, protocol in enumerate(route.upgrade):
            if not METHOD.fullmatch(protocol.upper()) or protocol.lower() == "h2c":
                report.add(
                    (*place, "upgrade", at), f"{protocol!r} cannot be tunnelled", "for example websocket"
                )
        _kind(route, raw[index], place, upstreams, report)
        _shadow(route, (*place, "shadow"), upstreams, report)


def _path(path: str, place: Place, report: Report) -> None:
    if not path.startswith("/"):
        report.add(place, "should begin with /")
    elif f"{path}/".startswith(RESERVED):
        report.add(place, f"{RESERVED} belongs to the sidecar itself")
    elif not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        report.add(place, "should be a plain path", "no query, spaces, double slashes or dot segments")


def _kind(
    route: Route, raw: Mapping[str, Any], place: Place, upstreams: Collection[str], report: Report
) -> None:
    """Each kind has its own fields; one that would do nothing is refused rather than ignored."""
    if raw.get("kind", route.kind) != route.kind:
        return  # was told already, and the kind it has now is only the default
    for field in _RECOMMEND_ONLY if route.kind == "forward" else _FORWARD_ONLY:
        if field in raw:
            report.add((*place, field), f"does nothing on a {route.kind} route")
    if route.kind == "forward":
        if not route.upstream:
            report.add((*place, "upstream"), "is missing: whereto should requests go?", _there_are(upstreams))
        else:
            _exists(route.upstream, (*place, "upstream"), upstreams, report)
        return
    if route.k_default > route.k_max:
        report.add((*place, "k_default"), "is more than k_max")
    for source in ("cf", "content", "control"):
        if asked := getattr(route.sources, source):
            _exists(asked, (*place, "sources", source), upstreams, report)


def _shadow(route: Route, place: Place, upstreams: Collection[str], report: Report) -> None:
    shadow = route.shadow
    if abs(shadow.percent * 100 - hundredths(shadow.percent)) > 1e-6:
        report.add((*place, "percent"), "is finer than 0.01")
    if shadow.upstream:
        _exists(shadow.upstream, (*place, "upstream"), upstreams, report)
    if shadow.toggles and route.kind == "forward":
        report.add((*place, "toggles"), "does nothing on a forward route", "name an upstream")
    elif shadow.toggles and shadow.upstream:
        report.add((*place, "toggles"), "does nothing beside upstream", "keep one of the two")
    elif shadow.percent and not (shadow.toggles or shadow.upstream):
        plan = ", or give toggles for a second plan" if route.kind == "recommend" else ""
        report.add((*place, "upstream"), "is missing: whereto should copies go?", f"name one{plan}")
    if "cache_mode" in shadow.toggles:
        report.add((*place, "toggles", "cache_mode"), "does nothing: a second plan never meets the cache")
    for fault in read_over(shadow.toggles, (*place, "toggles"))[1]:
        hint = fault.hint or (likeness(str(fault.place[-1]), fault.known) if fault.known else "")
        report.add(fault.place, fault.message, hint)
    for index, header in enumerate(shadow.headers):
        if not METHOD.fullmatch(header.upper()):
            report.add((*place, "headers", index), f"{header!r} is no name of a header field")


def _exists(name: str, place: Place, upstreams: Collection[str], report: Report) -> None:
    if name not in upstreams:
        report.add(place, f"there is no [upstreams.{name}]", likeness(name, list(upstreams)))


def _there_are(upstreams: Collection[str]) -> str:
    return f"there are: {', '.join(sorted(upstreams)) or 'none'}"
