"""The OpenAPI document: valid, whole, and nothing beside the table."""

import dataclasses
import re
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from proxy.admin.calls import Change
from proxy.admin.endpoints import ENDPOINTS
from proxy.admin.openapi import document
from proxy.admin.problems import PROBLEMS
from proxy.admin.signature import signature

DOCUMENT = document(ENDPOINTS)
OPERATIONS = {
    (method.upper(), path): operation
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
}
IDS = [f"{endpoint.method} {endpoint.path}" for endpoint in ENDPOINTS]


def test_the_document_is_valid():
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []
    assert DOCUMENT["openapi"].startswith("3.1")


def test_every_row_of_the_table_is_in_it_and_nothing_else():
    assert set(OPERATIONS) == {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}
    assert len(OPERATIONS) == len(ENDPOINTS)
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=IDS)
def test_role_problems_and_headers_are_told(endpoint):
    operation = OPERATIONS[endpoint.method, endpoint.path]
    assert operation["summary"]
    assert operation.get("x-fusebox-role") == (endpoint.role.label if endpoint.role else None)
    assert operation["security"] == ([{"token": []}] if endpoint.role else [])
    told = {
        code: int(status)
        for status, it in operation["responses"].items()
        if "application/problem+json" in it["content"]
        for code in it["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]["code"][
            "enum"
        ]
    }
    assert told == {code: PROBLEMS[code][0] for code in endpoint.problems}
    asked = {it["name"] for it in operation["parameters"] if it["in"] == "header"}
    change = endpoint.signature.change
    assert ("Idempotency-Key" in asked) == change
    assert ("If-Match" in asked) == (change and endpoint.version is not None)
    assert ("ETag" in operation["responses"]["200"]["headers"]) == (endpoint.version is not None)


LOOKS = {"/v1/toggles/preview", "/v1/rollback/preview"}
"""Asked by POST, since a query has no room for what they look at."""


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=IDS)
def test_what_changes_something_is_no_get_and_needs_a_reason_and_a_role(endpoint):
    takes = endpoint.signature
    assert takes.change == (endpoint.method != "GET" and endpoint.path not in LOOKS)
    if takes.change:
        assert endpoint.role is not None
        assert "reason" in takes.body_fields


async def test_it_is_served_without_a_token(admin):
    served = await (await admin.ask("GET", "/v1/openapi.json")).json()
    assert served == DOCUMENT


async def odd(call, form: int) -> Change[int]:
    """A parameter that stands for nothing."""


async def silent(call) -> Change[int]: ...


@pytest.mark.parametrize("handler", [odd, silent])
def test_a_handler_that_cannot_be_documented_is_refused_at_once(handler):
    with pytest.raises(TypeError, match=handler.__name__):
        signature(handler)


def test_records_of_requests_are_frozen():
    for endpoint in ENDPOINTS:
        for adapter in (endpoint.signature.path, endpoint.signature.query, endpoint.signature.body):
            if adapter is not None:
                kind = adapter._type
                assert dataclasses.is_dataclass(kind)
                assert kind.__dataclass_params__.frozen
                assert kind.__pydantic_config__["extra"] == "forbid"


def test_the_page_names_every_endpoint_and_code():
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    rows = re.findall(r"^\| `(\w+) (.+?) \| ([\w ]+) \|", page, re.MULTILINE)
    told = set()
    for method, rest, role in rows:
        for said in re.findall(r"(?:(\w+) )?(/[\w/{}.]+)`", f"{method} {rest}"):
            told.add((said[0] or method, said[1], role))
    assert told == {(it.method, it.path, it.role.label if it.role else "nobody is asked") for it in ENDPOINTS}
    codes = {
        (code, int(status))
        for names, status in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (\d{3}) \|", page, re.MULTILINE)
        for code in re.findall(r"\w+", names)
    }
    assert codes == {(code, status) for code, (status, _) in PROBLEMS.items()}
