"""Transactions carry their ticket's name, and no name is one that PostgreSQL would cut."""

import pytest

from standfast.errors import InvalidInput
from standfast.store.databases import Role
from standfast.store.roles import role_name
from standfast.store.takeover import session_name


def test_a_session_is_named_after_its_ticket() -> None:
    assert session_name("ticket/shop/SUP-7") == "standfast ticket/shop/SUP-7"


def test_long_names_stay_different_where_postgresql_would_cut_them() -> None:
    one, other = (session_name(f"ticket/shop/{'x' * 128}{end}") for end in "ab")
    assert one != other
    assert max(len(one), len(other)) <= 63


def test_names_of_roles_are_measured_in_bytes_as_postgresql_does() -> None:
    for letter, longest in (("x", 46), ("ö", 23)):
        assert len(role_name(letter * longest, Role.READER).encode()) == 63
        with pytest.raises(InvalidInput, match="is too long for a role's name"):
            role_name(letter * (longest + 1), Role.READER)
