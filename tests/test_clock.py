"""Labels of wall time."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.clock import rfc3339

SECONDS = st.floats(min_value=0, max_value=4e9)


@pytest.mark.parametrize(
    ("seconds", "label"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_700_000_000.25, "2023-11-14T22:13:20.250000Z"),
        (-0.5, "1969-12-31T23:59:59.500000Z"),
        (1_700_000_000.999_99, "2023-11-14T22:13:20.999989Z"),
    ],
)
def test_labels(seconds, label):
    assert rfc3339(seconds) == label


@given(SECONDS)
def test_a_label_names_its_microsecond(seconds):
    told = datetime.fromisoformat(rfc3339(seconds))
    assert abs(told - datetime.fromtimestamp(seconds, UTC)) <= timedelta(microseconds=1)


@given(SECONDS, SECONDS)
def test_labels_sort_as_text(one, other):
    first, second = sorted((one, other))
    assert rfc3339(first) <= rfc3339(second)
