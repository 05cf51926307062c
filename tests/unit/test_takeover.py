"""Transactions carry their ticket's name."""

from standfast.store.takeover import session_name


def test_a_session_is_named_after_its_ticket() -> None:
    assert session_name("ticket/shop/SUP-7") == "standfast ticket/shop/SUP-7"


def test_long_names_stay_different_where_postgresql_would_cut_them() -> None:
    one, other = (session_name(f"ticket/shop/{'x' * 128}{end}") for end in "ab")
    assert one != other
    assert max(len(one), len(other)) <= 63
