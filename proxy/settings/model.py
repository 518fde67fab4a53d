"""What the settings file says, as values. The records that routes and pools read are `core.policy`'s."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Interval

from proxy.core.audit_settings import STRICT, Audit
from proxy.core.cache import CacheSettings, WarmList
from proxy.core.events import EventsSettings
from proxy.core.experiment import Experiment
from proxy.core.flaps import FlapBudget
from proxy.core.override import Overrides
from proxy.core.policy import Deadlines, Film, Identity, Limits, Policy, Route, Upstream
from proxy.core.rollback.settings import RollbackSettings
from proxy.core.toggles import Toggles


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """The data plane's door."""

    __pydantic_config__: ClassVar[Any] = STRICT
    address: str = "127.0.0.1:8080"
    trusted_proxies: tuple[str, ...] = ()  # networks whose X-Forwarded-* is believed


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """The door of the API, metrics and health: bind it inside."""

    __pydantic_config__: ClassVar[Any] = STRICT
    address: str = "127.0.0.1:8081"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where the kill decision and the tokens are kept."""

    __pydantic_config__: ClassVar[Any] = STRICT
    directory: str = "var"  # relative to the settings file, as every path in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """The store: `sqlite:///FILE`, `postgresql://…` or `memory://`."""

    __pydantic_config__: ClassVar[Any] = STRICT
    url: str = "sqlite:///var/fusebox.db"  # a file's path is relative to the settings file
    wait_s: Annotated[float, Gt(0)] = 5.0  # for the store, before a change is refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Oidc:
    """Whose signed tokens are taken beside the sidecar's own; empty issuer: nobody's."""

    __pydantic_config__: ClassVar[Any] = STRICT
    issuer: str = ""
    audience: str = ""
    algorithms: tuple[str, ...] = ("RS256",)
    jwks_url: str = ""  # empty: as the issuer's discovery document says
    role_claim: str = "roles"  # a "." leads into an object
    roles: dict[str, Literal["viewer", "operator", "commander", "admin"]] = field(default_factory=dict)
    leeway_s: Annotated[float, Ge(0)] = 30.0
    name_claim: str = "sub"


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What goes to stdout."""

    __pydantic_config__: ClassVar[Any] = STRICT
    level: Literal["debug", "info", "warning", "error"] = "info"
    access_sample: Annotated[float, Interval(ge=0, le=1)] = 0.01  # share of answers logged; errors always


@dataclass(frozen=True, slots=True, kw_only=True)
class PopularityFile:
    """The list that answers when nothing else does; empty: there is none."""

    __pydantic_config__: ClassVar[Any] = STRICT
    file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TogglesFile:
    """The toggles document; empty: no toggle is set."""

    __pydantic_config__: ClassVar[Any] = STRICT
    file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One settings file and what it points to, checked."""

    file: Path
    listen: Listen
    admin: Admin
    state: State
    storage: Storage
    audit: Audit
    oidc: Oidc
    identity: Identity
    limits: Limits
    deadlines: Deadlines
    log: Log
    upstreams: Mapping[str, Upstream]  # `ca_file` already absolute
    authorities: Mapping[str, str]  # each `ca_file`: the PEM text in it
    routes: tuple[Route, ...]
    popularity: tuple[Film, ...]  # best first
    events: EventsSettings
    cache: CacheSettings
    warm: WarmList | None
    toggles: Toggles
    environment: str  # as the toggles document calls it
    experiment: Experiment
    flaps: FlapBudget
    overrides: Overrides
    rollback: RollbackSettings

    @property
    def state_directory(self) -> Path:
        return self.file.parent / self.state.directory

    @property
    def kill_file(self) -> Path:
        return self.state_directory / "kill.json"

    @property
    def toggles_file(self) -> Path:
        return self.state_directory / "toggles.json"

    @property
    def rollback_file(self) -> Path:
        return self.state_directory / "rollback.json"

    @property
    def tokens_file(self) -> Path:
        return self.state_directory / "tokens.json"

    @property
    def spool_directory(self) -> Path:
        return self.state_directory / "spool"

    @property
    def audit_key_file(self) -> Path:
        return self.state_directory / "audit.key"

    @property
    def last_signed_file(self) -> Path:
        return self.state_directory / "audit.last"

    @property
    def signing_key_file(self) -> Path:
        return self.state_directory / "signing.key"

    @property
    def events_directory(self) -> Path:
        return self.file.parent / self.events.directory

    @property
    def events_key_file(self) -> Path:
        return self.state_directory / "events.key"

    def policy(self, signing_key: bytes = b"") -> Policy:
        """What of this the data plane may know; the key is that of overrides and cursors."""
        return Policy(
            routes=self.routes,
            upstreams=self.upstreams,
            identity=self.identity,
            limits=self.limits,
            deadlines=self.deadlines,
            toggles=self.toggles,
            experiment=self.experiment,
            flaps=self.flaps,
            rollback=self.rollback,
            popularity=self.popularity,
            cache=self.cache,
            warm=self.warm,
            trusted_proxies=self.listen.trusted_proxies,
            authorities=self.authorities,
            actions=tuple(
                replace(action, when_full=action.when_full or self.audit.when_full)
                for action in self.audit.actions
            ),
            access_log_sample=self.log.access_sample,
            overrides=replace(self.overrides, secret=""),
            signing_key=signing_key,
        )


_RELOADABLE = {"audit.actions", "audit.when_full"}


def changes_needing_restart(old: Settings, new: Settings) -> list[str]:
    """Names of the settings that differ and that a reload cannot change: open doors and open files."""
    pairs = {
        "listen.address": (old.listen.address, new.listen.address),
        "admin.address": (old.admin.address, new.admin.address),
        "state.directory": (old.state_directory, new.state_directory),
    }
    for section in ("storage", "audit", "oidc", "events"):
        before, after = getattr(old, section), getattr(new, section)
        for each in fields(before):
            pairs[f"{section}.{each.name}"] = (getattr(before, each.name), getattr(after, each.name))
    return [name for name, (before, after) in pairs.items() if before != after and name not in _RELOADABLE]


def split_address(address: str) -> tuple[str, int]:
    """`host:port` or `[ipv6]:port` as a pair; ValueError says what is wrong. Port 0 is any free one."""
    host, colon, port = address.rpartition(":")
    if not colon:
        raise ValueError("should be host:port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 host stands in brackets: [::1]:8080")
    if not host or any(character.isspace() or character in "/@" for character in host):
        raise ValueError("has no usable host; 0.0.0.0 means every interface")
    if not (port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise ValueError("should end in a port from 0 to 65535")
    return host, int(port)
