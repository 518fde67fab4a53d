"""The OpenAPI 3.1 document, made from the table of endpoints and its handlers' own annotations."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import TypeAdapter

from proxy import __version__
from proxy.admin.endpoints import Endpoint
from proxy.admin.problems import PROBLEMS, ProblemDocument

Schema = dict[str, Any]
_REF = "#/components/schemas/{model}"

_HEADERS: Mapping[str, Schema] = {
    "X-Request-Id": {
        "description": "Stands in the log and in problem documents.",
        "schema": {"type": "string"},
    },
    "ETag": {"description": "The version, for `If-Match`.", "schema": {"type": "string"}},
    "Retry-After": {"description": "In seconds.", "schema": {"type": "integer", "minimum": 1}},
    "Allow": {"description": "What may be asked here.", "schema": {"type": "string"}},
    "WWW-Authenticate": {"description": "How to be let in.", "schema": {"type": "string"}},
    "X-Fusebox-Changed": {
        "description": "`false`: everything was as asked for already.",
        "schema": {"type": "string", "enum": ["true", "false"]},
    },
    "Idempotency-Replayed": {
        "description": "Present when this answer was given before, for the same `Idempotency-Key`.",
        "schema": {"type": "string", "enum": ["true"]},
    },
}
_IF_MATCH: Schema = {
    "name": "If-Match",
    "in": "header",
    "description": "The `ETag` that the change was decided on; 412 when it is another by now.",
    "schema": {"type": "string", "examples": ['"7"']},
}
_KEY: Schema = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes repeating safe: the same request with the same key happens once, and gets the same "
    "answer for 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
}
_RETRY = {"too_many_attempts", "rate_limited", "overloaded", "request_running"}


def document(endpoints: Iterable[Endpoint]) -> Mapping[str, Any]:
    """Every endpoint, and nothing else."""
    schemas = _Schemas()
    problem = schemas.of(TypeAdapter(ProblemDocument), "serialization")
    paths: dict[str, Schema] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas, problem)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fusebox admin API",
            "version": __version__,
            "description": "Roles: viewer < operator < commander < admin, each with the rights of those "
            "before; `x-fusebox-role` names the least that is needed. HEAD is offered beside every GET. "
            "Whatever else is asked for is answered 404 `not_found` or 405 `method_not_allowed`.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "From `fusebox token create`, or a JWT of the issuer in [oidc].",
                }
            },
            "headers": dict(_HEADERS),
            "schemas": schemas.found,
        },
    }


class _Schemas:
    """Collects the named schemas that others refer to."""

    def __init__(self) -> None:
        self.found: dict[str, Schema] = {}

    def of(self, adapter: TypeAdapter[Any], mode: Literal["validation", "serialization"]) -> Schema:
        """By reference when it has a name of its own."""
        schema = adapter.json_schema(mode=mode, ref_template=_REF)
        self.found |= schema.pop("$defs", {})
        if "title" not in schema or schema.get("type") != "object":
            return schema
        self.found[schema["title"]] = schema
        return {"$ref": _REF.format(model=schema["title"])}


def _operation(endpoint: Endpoint, schemas: _Schemas, problem: Schema) -> Schema:
    takes = endpoint.signature
    operation: Schema = {"operationId": endpoint.handle.__name__, "summary": takes.title}
    if takes.description:
        operation["description"] = inspect.cleandoc(takes.description)
    operation["parameters"] = _parameters(endpoint)
    if takes.body is not None:
        content = {"application/json": {"schema": schemas.of(takes.body, "validation")}}
        operation["requestBody"] = {"required": endpoint.method != "DELETE", "content": content}
    operation["responses"] = _responses(endpoint, schemas, problem)
    if endpoint.role is not None:
        operation["security"] = [{"token": []}]
        operation["x-fusebox-role"] = endpoint.role.label
    else:
        operation["security"] = []
    return operation


def _parameters(endpoint: Endpoint) -> list[Schema]:
    takes = endpoint.signature
    found = []
    for place, adapter in (("path", takes.path), ("query", takes.query)):
        if adapter is not None:
            found += _fields(adapter, place)
    if endpoint.method == "DELETE" and takes.body is not None:
        found += [
            it | {"required": False, "description": "Instead of a body."}
            for it in _fields(takes.body, "query")
        ]
    if takes.change:
        found.append(_KEY)
        if endpoint.version is not None:
            found.append(_IF_MATCH | ({"required": True} if endpoint.required else {}))
    return found


def _fields(adapter: TypeAdapter[Any], place: str) -> list[Schema]:
    schema = adapter.json_schema()
    required = schema.get("required", [])
    found = []
    for name, it in schema["properties"].items():
        if it.get("default") == "":  # stands for what is not given
            del it["default"]
        found.append({"name": name, "in": place, "required": name in required, "schema": it})
    return found


def _responses(endpoint: Endpoint, schemas: _Schemas, problem: Schema) -> Schema:
    takes = endpoint.signature
    content: Schema = {kind: {"schema": {"type": "string"}} for kind in endpoint.text}
    if takes.answer is not None:
        content["application/json"] = {"schema": schemas.of(takes.answer, "serialization")}
    headers = ["X-Request-Id"]
    if endpoint.version is not None:
        headers.append("ETag")
    if takes.change:
        headers += ["X-Fusebox-Changed", "Idempotency-Replayed"]
    said = {200: "Done" if takes.change else "As it is"}
    responses: Schema = {
        str(status): {
            "description": said.get(status, "As it is, and not as it should be"),
            "headers": _headers(headers),
            "content": content,
        }
        for status in endpoint.statuses
    }
    for status, codes in sorted(_by_status(endpoint).items()):
        responses[str(status)] = _problem(status, codes, problem)
    return responses


def _by_status(endpoint: Endpoint) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for code in dict.fromkeys(endpoint.problems):
        found.setdefault(PROBLEMS[code][0], []).append(code)
    return found


def _problem(status: int, codes: list[str], problem: Schema) -> Schema:
    told = "; ".join(f"`{code}`: {PROBLEMS[code][1]}" for code in codes)
    headers = ["X-Request-Id"]
    if status == 401:
        headers.append("WWW-Authenticate")
    if _RETRY & set(codes):
        headers.append("Retry-After")
    narrowed = {"allOf": [problem, {"properties": {"code": {"enum": codes}, "status": {"const": status}}}]}
    return {
        "description": told,
        "headers": _headers(headers),
        "content": {"application/problem+json": {"schema": narrowed}},
    }


def _headers(names: Iterable[str]) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
