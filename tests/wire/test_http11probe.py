"""All cases of Http11Probe, where they are at hand, and the table of verdicts that is kept of them."""

import pytest
from verdicts import CASES_FILE, TABLE, Verdict, cases, render, run

pytestmark = pytest.mark.skipif(not CASES_FILE.exists(), reason="the cases are kept beside the project")


@pytest.fixture(scope="module")
def verdicts() -> dict[str, Verdict]:
    return run()


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["id"])
def test_verdict(case: dict[str, str], verdicts: dict[str, Verdict]) -> None:
    verdict = verdicts[case["id"]]
    assert verdict.passes(case["expected"]), (
        f"{case['expected']} wanted, got {verdict}; {verdict.upstream} upstream"
    )


def test_the_table_is_up_to_date(verdicts: dict[str, Verdict]) -> None:
    """`python tests/wire/verdicts.py` mends it."""
    assert TABLE.read_text() == render(verdicts)


def test_a_smuggled_request_never_passes() -> None:
    """The reading of a case is strict itself: refusing while something went upstream is no refusal."""
    assert Verdict(400, closed=True, upstream=0).passes("400 or close")
    assert not Verdict(400, closed=True, upstream=1).passes("400 or close")
    assert not Verdict(200, closed=False, upstream=1).passes("400 or close (pass), 2xx (warn)")
    assert not Verdict(200, closed=False, upstream=1).passes("2xx + close")
    assert not Verdict(101, closed=False, upstream=1).passes("!101")
