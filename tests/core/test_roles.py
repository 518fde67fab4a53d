"""Roles: their order is their meaning."""

import pytest

from proxy.core.roles import Role


def test_each_role_holds_the_rights_of_those_below():
    assert Role.VIEWER < Role.OPERATOR < Role.COMMANDER < Role.ADMIN


def test_every_role_is_found_by_its_label():
    assert [Role.named(role.label) for role in Role] == list(Role)


@pytest.mark.parametrize("label", ["", "ADMIN", "root"])
def test_an_unknown_label_is_answered_with_the_known_ones(label):
    with pytest.raises(ValueError, match="viewer, operator, commander, admin"):
        Role.named(label)
