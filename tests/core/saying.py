"""What sources say, as it is read."""

import json
from collections.abc import Iterable, Mapping

from proxy.core.candidates import Candidates, parse_candidates

Row = tuple[str, float, Mapping[str, object]]
"""Id, score and other fields of an item."""


def said(rows: Iterable[Row]) -> Candidates:
    items = [{**fields, "id": key, "score": score} for key, score, fields in rows]
    return parse_candidates(json.dumps({"items": items}).encode())
