"""How answers look that services give as mappings, for the OpenAPI document."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import TypeAdapter, WithJsonSchema

from proxy.control.audit_report import Finding
from proxy.core.audit import Outcome, Scalar
from proxy.settings.toggle_files import schema


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """An entry. What is empty is left out; `sealed`, `erased` and `damaged` stand there only as true."""

    seq: int
    at: str
    action: str
    outcome: Outcome = Outcome.DONE
    actor: str = ""
    role: str = ""
    subject: str = ""
    target: str = ""
    before: dict[str, Scalar] | None = None
    after: dict[str, Scalar] | None = None
    reason: str = ""
    address: str = ""
    request_id: str = ""
    instance: str = ""
    status: int = 0
    sample: float = 1.0
    of: int | None = None
    sealed: bool = False
    erased: bool = False
    damaged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was looked at, and what is wrong with it; see `fusebox audit verify`."""

    ok: bool
    size: int
    root: str
    entries: int
    dropped: int
    erased: int
    checkpoints: int
    external: int
    signed: int
    more: int
    findings: tuple[Finding, ...]


def _inline(kind: type) -> dict[str, Any]:
    """Its schema in validation mode: what has a default need not be there. References are filled in."""
    schema = TypeAdapter(kind).json_schema()
    filled: dict[str, Any] = _filled(schema, schema.pop("$defs", {}))
    return filled


def _filled(schema: Any, known: Mapping[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_filled(it, known) for it in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _filled(known[schema["$ref"].rpartition("/")[2]], known)
    return {name: _filled(it, known) for name, it in schema.items() if name != "default"}


_TOGGLES = schema()


def _of_toggles(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part of the schema of toggles documents, without what excludes each other: 422 tells that best."""
    filled: dict[str, Any] = _filled(part, _TOGGLES["$defs"])
    return {name: it for name, it in filled.items() if name != "allOf"}


TogglesByName = Annotated[dict[str, Any], WithJsonSchema(_of_toggles(_TOGGLES["$defs"]["toggles"]))]
ScopedRules = Annotated[list[Any], WithJsonSchema(_of_toggles(_TOGGLES["properties"]["rules"]))]
Shown = Annotated[Mapping[str, Any], WithJsonSchema(_inline(AuditEntry))]
Verified = Annotated[Mapping[str, Any], WithJsonSchema(_inline(Verification))]
