"""A handler's own annotations say what it takes and gives; requests are read by them, and documented.

`path`, `query` and `body` are names of parameters, each a frozen dataclass; what a dataclass does not
name is an error. Every fault of a request is told at once, with its place.
"""

import inspect
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, get_args, get_origin, get_type_hints

from multidict import MultiMapping
from pydantic import TypeAdapter, ValidationError

from proxy.admin.calls import Answer, Change, Text
from proxy.admin.problems import Fault, Problem

Handler = Callable[..., Awaitable[Any]]
PARTS = ("path", "query", "body")

_UNKNOWN = "is not known here"
_SAID = {
    "missing": "is missing",
    "unexpected_keyword_argument": _UNKNOWN,
    "dataclass_type": "should be a JSON object",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Read once from a handler. `answer` is None where every answer is text."""

    path: TypeAdapter[Any] | None
    query: TypeAdapter[Any] | None
    body: TypeAdapter[Any] | None
    body_fields: tuple[str, ...]
    answer: TypeAdapter[Any] | None
    change: bool
    title: str
    description: str

    def read(
        self, *, path: Mapping[str, str], query: MultiMapping[str], body: bytes, or_query: bool
    ) -> dict[str, Any]:
        """Arguments for the handler. With `or_query` fields of the body may stand in the query instead.

        Problem `bad_request` with all faults; `not_found` when only the path is at fault.
        """
        faults: list[Fault] = []
        found: dict[str, Any] = {}
        if self.path is not None:
            found["path"] = _checked("path", faults, lambda it: it.validate_strings(dict(path)), self.path)
            if faults:
                raise Problem("not_found", _told(faults), errors=faults)
        asked = _single(query, faults)
        moved = {name: asked.pop(name) for name in self.body_fields if or_query and name in asked}
        if self.body is not None:
            if body or not moved:
                faults += _twice(body)
                found["body"] = _checked(
                    "body", faults, lambda it: it.validate_json(body or b"{}", strict=True), self.body
                )
                faults += [Fault(at=f"query.{name}", detail="stands in the body as well") for name in moved]
            else:
                found["body"] = _checked("query", faults, lambda it: it.validate_strings(moved), self.body)
        if self.query is not None:
            found["query"] = _checked("query", faults, lambda it: it.validate_strings(asked), self.query)
        else:
            faults += [
                Fault(at=f"query.{name}", detail=_SAID["unexpected_keyword_argument"]) for name in asked
            ]
        if faults:
            raise Problem("bad_request", _told(faults), errors=faults)
        return found


def signature(handler: Handler) -> Signature:
    """TypeError when the annotations are not such that requests can be read and answers documented."""
    hints = get_type_hints(handler, include_extras=True)
    given = hints.pop("return")
    if unknown := inspect.signature(handler).parameters.keys() - {"call", *PARTS}:
        raise TypeError(
            f"{handler.__name__}: parameters that stand for nothing: {', '.join(sorted(unknown))}"
        )
    change = get_origin(given) is Change
    if get_origin(given) in {Change, Answer}:
        (given,) = get_args(given)
    kinds = [it for it in get_args(given) or (given,) if it is not Text]
    answer = None if not kinds else given if Text not in get_args(given) else kinds[0]
    title, _, description = (inspect.getdoc(handler) or "").partition("\n")
    if not title:
        raise TypeError(f"{handler.__name__}: its docstring is the summary of its operation")
    return Signature(
        path=_adapter(hints.get("path")),
        query=_adapter(hints.get("query")),
        body=_adapter(hints.get("body")),
        body_fields=tuple(it.name for it in fields(hints["body"])) if "body" in hints else (),
        answer=_adapter(answer),
        change=change,
        title=title.strip().removesuffix("."),
        description=description.strip(),
    )


def _adapter(kind: Any) -> TypeAdapter[Any] | None:
    return None if kind is None else TypeAdapter(kind)


def _single(query: MultiMapping[str], faults: list[Fault]) -> dict[str, str]:
    """Each parameter once."""
    faults += [
        Fault(at=f"query.{name}", detail="is given more than once")
        for name in dict.fromkeys(query)
        if len(query.getall(name)) > 1
    ]
    return dict(query)


def _checked(
    part: str, faults: list[Fault], read: Callable[[TypeAdapter[Any]], Any], adapter: TypeAdapter[Any]
) -> Any:
    try:
        return read(adapter)
    except ValidationError as error:
        for it in error.errors(include_url=False, include_input=False, include_context=False):
            at = ".".join([part, *map(str, it["loc"])])
            faults.append(Fault(at=at, detail=_detail(it["type"], it["msg"])))
        return None


def _twice(body: bytes) -> list[Fault]:
    """Names that an object has more than once: which of their values counts, readers of JSON disagree on."""
    found: list[Fault] = []

    def pairs(given: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in given]
        found.extend(
            Fault(at="body", detail=f"names {name} more than once")
            for name, times in Counter(names).items()
            if times > 1
        )
        return dict(given)

    with suppress(ValueError, RecursionError):  # no JSON: told by whoever reads it
        json.loads(body, object_pairs_hook=pairs)
    return found


def _detail(kind: str, said: str) -> str:
    if kind == "json_invalid":
        return f"is no JSON: {said.removeprefix('Invalid JSON: ')}"
    return _SAID.get(kind) or said.removeprefix("Value error, ")


def _told(faults: list[Fault]) -> str:
    return "; ".join(f"{it.at}: {it.detail}" for it in faults)
