"""What is made from the catalogue of toggles: schema, example, rollback profile and `docs/toggles_spec.md`;
and, from the machine, the tables of the page on rollback.

`python -m proxy.settings.toggle_files [DIRECTORY]` (`make generated`) writes them below a directory; a
test compares what is there.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from proxy.core.toggles import (
    BASELINES,
    CATALOGUE,
    COHORT_ALPHAS,
    CONTRADICTIONS,
    STAGES,
    Contradiction,
    Toggle,
)
from proxy.core.toggles_document import MAX_NAME_BYTES, MAX_NAMES, MAX_RULES, METADATA, SCOPES
from proxy.settings.rollback_page import PAGE, filled

_TYPES: Mapping[type, str] = {int: "integer", str: "string"}
_METADATA = {
    "version": 1,
    "environment": "production",
    "updated_by": "fusebox",
    "updated_at": "2026-01-01T00:00:00Z",
}


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a toggles document.

    It cannot say: which flags routes have, that exposure goes in steps of 0.01, what a rule and the
    document around it make together, which rules never count. `fusebox check` does.
    """
    metadata: dict[str, Any] = {name: {"type": _TYPES[kind]} for name, kind in METADATA.items()}
    metadata["version"]["minimum"] = 1
    scope = {part: _value(toggle) | {"description": "empty: all"} for part, toggle in SCOPES.items()}
    rule = {
        "scope": _object(scope, description="one name of each list"),
        "toggles": {"$ref": "#/$defs/scoped_toggles"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:fusebox:runtime-toggles",
        "title": "Fusebox runtime toggles",
        **_object(
            {
                "metadata": _object(metadata),
                "toggles": {"$ref": "#/$defs/toggles"},
                "rules": {
                    "description": "the first whose scope fits a request counts",
                    "type": "array",
                    "maxItems": MAX_RULES,
                    "items": {**_object(rule), "required": ["toggles"]},
                },
                "flags": {
                    "description": "by the names that routes give; one that is not named is on",
                    "type": "object",
                    "additionalProperties": {"type": "boolean"},
                },
            }
        ),
        "$defs": {
            "toggles": _toggles(CATALOGUE),
            "scoped_toggles": {
                **_toggles([toggle for toggle in CATALOGUE if toggle.scoped]),
                "minProperties": 1,
            },
        },
    }


def _toggles(toggles: Sequence[Toggle]) -> dict[str, Any]:
    return _object({toggle.name: _value(toggle) for toggle in toggles}) | {
        "allOf": [{"not": _contradiction(each), "$comment": each.why} for each in CONTRADICTIONS]
    }


def _contradiction(contradiction: Contradiction) -> dict[str, Any]:
    """What is not named has its default, so only those count as named whose default is no part of it."""
    defaults = {toggle.name: toggle.default for toggle in CATALOGUE}
    return {
        "properties": {name: {"enum": list(values)} for name, values in contradiction.values.items()},
        "required": [name for name, values in contradiction.values.items() if defaults[name] not in values],
    }


def _object(properties: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {**more, "type": "object", "additionalProperties": False, "properties": properties}


def _value(toggle: Toggle) -> dict[str, Any]:
    said: dict[str, Any] = {"description": toggle.does, "default": toggle.default}
    match toggle.kind:
        case "switch":
            said |= {"type": "boolean"}
        case "number":
            said |= {
                "type": ["number", "null"] if toggle.nullable else "number",
                "minimum": toggle.low,
                "maximum": toggle.high,
            }
        case "choice":
            said |= {"enum": [*toggle.choices, *([None] if toggle.nullable else [])]}
        case "names":
            text: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": MAX_NAME_BYTES}
            text["not"] = {"pattern": "[\\u0000-\\u001f\\u007f]"}
            names = {"enum": list(toggle.choices)} if toggle.choices else text
            said |= {"type": "array", "items": names, "uniqueItems": True, "maxItems": MAX_NAMES}
    return said


def example() -> dict[str, Any]:
    """A document with everything in it: defaults, and a rule for names that nobody has."""
    return {
        "metadata": {**_METADATA, "reason": "an example: defaults, one scoped rule, every flag"},
        "toggles": {toggle.name: toggle.default for toggle in CATALOGUE},
        "rules": [
            {
                "scope": {"region": ["example-region"], "client": ["example-tv", "example-phone"]},
                "toggles": {"policy_mode": "content_only", "exposure_percent": 12.5},
            }
        ],
        "flags": {"billing": True, "notifications": True},
    }


def rollback_profile() -> dict[str, Any]:
    """What stages and baselines set."""
    return {
        "metadata": {**_METADATA, "reason": "stages are cumulative: each sets this beside those before it"},
        "stages": STAGES,
        "baselines": BASELINES,
    }


def specification() -> str:
    """`docs/toggles_spec.md`."""
    return "\n".join(
        [
            *_INTRODUCTION.splitlines(),
            "",
            *_table(
                ["toggle", "values", "default", "outranked by", "in rules"],
                ([f"[`{it.name}`](#{it.name})", _values(it), _json(it.default), _above(it), _yes(it.scoped)]
                 for it in CATALOGUE),
            ),
            "",
            "## Toggle by toggle",
            *(line for toggle in CATALOGUE for line in _section(toggle)),
            *_INTERACTIONS.splitlines(),
            "",
            *_table(["", *(f"{n}" for n in range(1, len(CATALOGUE) + 1))],
                    ([f"{n} `{row.name}`", *(_cell(row, column) for column in CATALOGUE)]
                     for n, row in enumerate(CATALOGUE, 1))),
            "",
            "Refused, with every reason, wherever they would hold together:",
            "",
            *(f"- {_pairs(each.values)}: {each.why}." for each in CONTRADICTIONS),
            *_BASELINES.splitlines(),
            "",
            *_table(["baseline", "sets"], ([f"`{name}`", _set(sets)] for name, sets in BASELINES.items())),
            "",
            *_table(["stage", "sets beside what the ones before it have set"],
                    ([name, _set(sets)] for name, sets in STAGES.items())),
            *_EXPERIMENT.splitlines(),
            "",
            *_table([*COHORT_ALPHAS], [[str(alpha) for alpha in COHORT_ALPHAS.values()]]),
            *_LADDER.splitlines(),
            "",
        ]
    )  # fmt: skip


_INTRODUCTION = """\
# Toggles

<!-- Made from proxy/core/toggles.py by `make generated`; a test compares. -->

Twelve toggles decide per request what a recommend route does. At the first start they are those of the
document that `[toggles] file` names ([settings](settings.md#toggles)); from then on they are changed by API
and command ([operations](operations.md#toggles)) and kept. The document's JSON Schema is
[config/runtime_toggles.schema.json](../config/runtime_toggles.schema.json), an example with everything in it
[config/runtime_toggles.example.json](../config/runtime_toggles.example.json). `fusebox check` tells every
mistake at once.

```json
{"metadata": {"version": 7, "updated_by": "ann", "reason": "slow answers in the south"},
 "toggles": {"exposure_percent": 50},
 "rules": [{"scope": {"region": ["south"], "client": ["tv"]}, "toggles": {"disable_cf": true}}],
 "flags": {"billing": true}}
```

- A request **outside the document's scope** (`region_scope`, `cohort_scope`, `client_scope`) sees the
  defaults. A scope is one name of each list that has any: OR within a list, AND between them.
- Then **the first rule** whose scope fits is laid over that: toggles it does not name stay as they are. Cost
  does not depend on how many rules there are.
- A toggle that is not named has its default, and the defaults are what runs without a document.
- Each answer says what was decided: `arm`, `exposed`, `policy`, `alpha` and `level` in its `metadata`, arm,
  bucket and level in `X-Fusebox-Decision`; the access log has the reason and the rule.
"""

_INTERACTIONS = """
## Interactions

The order of precedence is: kill switch, scope, exposure, disabled sources, fallback level, cache mode, policy
mode, alpha, the experiment's arm. In the matrix the row **>** outranks the column: where it takes effect the
column may have none; **<** is the reverse; **&** both hold; **✗** some of their values exclude each other.
"""

_BASELINES = """
## Baselines and stages

Also in [config/rollback_profile.json](../config/rollback_profile.json).
"""

_EXPERIMENT = """
## Exposure, arms, cohorts

The bucket (0…9999) of a user is `(murmur3_32("exposure:" + user) · 10000) >> 32`; who is in a bucket below
`exposure_percent` · 100 is exposed. The others get the control answer: of `sources.control` where the route
has one, else popularity; either way `arm` is `control`, `exposed` false, and no trigger judges it. Without a
user the request id decides, and `fusebox_unsticky_requests_total` counts.

An experiment ([settings](settings.md#experiment)) gives each exposed user an arm, by a bucket of its own
salt. `arm` names it in answers and metrics only while the arm's own treatment is what is served: any toggle
that changes it makes it `none`.

Under `bucket_gate` alpha is that of the cohort; without a known one, that of the route. Who has no user id
is `cold`.
"""

_LADDER = """
## The ladder

What fills an answer, from the top down; `level` says which was the lowest that was needed, and a ceiling
(`candidate_fallback_level`) is the best that it says.

| level | items | `source` |
|---|---|---|
| A | what the sources offer that passes all filters | `hybrid`, `cf`, `content` |
| B | neighbours of it: where slots stay open content is asked again, at its `neighbours_path` | `content` |
| C | of both what breaks the filter on years; then what breaks that on genres | `pruned` |
| D | popularity: all filters, without years, without genres, without providers | `popularity` |

- An item that is known to be with none of the wanted providers is never on A to C.
- Under the ceilings B and C content is asked instead of cf, unless `policy_mode` or a disabled content leaves
  cf alone. Below either the ladder is the same.
- B needs a content source with a `neighbours_path` ([settings](settings.md#upstreamsname)), and time before
  the route's `deadline_ms`; it is left out where content is disabled, has just failed this request, or is cut
  off by its breaker. `preview` cannot foresee these calls.
- Who is not exposed gets what control offers that passes all filters, then popularity: no B, no C.
- `coverage` counts A to C. An answer of B or C is `degraded` only if a source failed; one of D always is.
- Scores never rise on the way from A to C; those of popularity are its own.
"""


def _section(toggle: Toggle) -> Iterator[str]:
    yield from ("", f"### {toggle.name}", "", toggle.does, "")
    yield f"- **Safety:** {toggle.safety}"
    if toggle.depends:
        yield f"- **Depends on:** {', '.join(f'`{name}`' for name in toggle.depends)}"
    yield f"- **Before:** {toggle.before}"
    yield f"- **After:** {toggle.after}"


def _values(toggle: Toggle) -> str:
    null = ", `null`" if toggle.nullable else ""
    match toggle.kind:
        case "switch":
            return "`true`, `false`"
        case "number":
            return f"{toggle.low:g} to {toggle.high:g}{null}"
        case "choice":
            return ", ".join(f"`{choice}`" for choice in toggle.choices) + null
        case "names":
            return "list of " + (", ".join(f"`{name}`" for name in toggle.choices) or "names")


def _above(toggle: Toggle) -> str:
    above = sorted({it.priority for it in CATALOGUE if it.priority < toggle.priority})
    names = [" / ".join(f"`{it.name}`" for it in CATALOGUE if it.priority == step) for step in above[-1:]]
    return f"{names[0]} and what outranks that" if names else "nothing"


def _cell(row: Toggle, column: Toggle) -> str:
    if row is column:
        return ""
    if any({row.name, column.name} <= each.values.keys() for each in CONTRADICTIONS):
        return "✗"
    if row.priority == column.priority:
        return "&"
    return ">" if row.priority < column.priority else "<"


def _pairs(values: Mapping[str, Sequence[Any]]) -> str:
    return ", ".join(f"`{name}` {' or '.join(map(_json, said))}" for name, said in values.items())


def _set(sets: Mapping[str, Any]) -> str:
    if sets == {toggle.name: toggle.default for toggle in CATALOGUE}:
        return "every toggle to its default"
    return ", ".join(f"`{toggle}` {_json(value)}" for toggle, value in sets.items())


def _json(value: Any) -> str:
    return f"`{orjson.dumps(value).decode()}`"


def _yes(value: bool) -> str:  # noqa: FBT001 - it is about the value
    return "yes" if value else "no"


def _table(head: Sequence[str], rows: Any) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(row)} |"


def rendered() -> dict[str, str]:
    """Every file by its path in the project."""
    documents = {"runtime_toggles.schema": schema(), "runtime_toggles.example": example()}
    documents["rollback_profile"] = rollback_profile()
    files = {
        f"config/{name}.json": orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n"
        for name, document in documents.items()
    }
    return {**files, "docs/toggles_spec.md": specification()}


def main(directory: Path) -> None:
    for path, text in rendered().items():
        (directory / path).write_text(text, encoding="utf-8")
    page = directory / PAGE
    if page.exists():
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(*sys.argv[1:2]))
