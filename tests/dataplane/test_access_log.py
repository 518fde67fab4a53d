"""Which answers go into the access log."""

import pytest

from proxy.dataplane.access_log import AccessLog


@pytest.mark.parametrize(("share", "lines"), [(0.0, 0), (0.25, 25), (1.0, 100)])
def test_of_those_that_went_well_a_sample(share, lines):
    log = AccessLog()
    log.sample = share
    assert sum(log.wants(always=False) for _ in range(100)) == lines


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_all_that_went_wrong_which_takes_no_place_from_the_sample(share):
    log = AccessLog()
    log.sample = share
    assert all(log.wants(always=True) for _ in range(3))
    assert sum(log.wants(always=False) for _ in range(97)) >= 97 * share
