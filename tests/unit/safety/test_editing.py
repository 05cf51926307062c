"""Constraints are changed entry by entry, and nothing else in them; what is wrong is refused with its place."""

import pytest

from standfast.errors import InvalidInput
from standfast.safety.constraints import dump_constraints, parse_constraints
from standfast.safety.editing import added, removed
from tests.unit.safety.test_constraints import FULL, MORE

PRESENT = parse_constraints(FULL, source="mine.yaml")


@pytest.mark.parametrize(
    ("section", "entry", "name"),
    [
        ("tables", '{"name": "public.orders", "writes": "auto"}', "public.orders"),
        ("tables", "{name: billing.*, protected: true}", "billing.*"),
        ("columns", "{table: public.orders, name: total, class: money}", "public.orders.total"),
        ("values", "{table: public.orders, column: total, below: 0}", "public.orders.total"),
        ("predicates", "{table: public.orders, columns: [tenant_id]}", "public.orders"),
        ("freezes", "{from: 2027-01-01, to: 2027-01-02}", "1"),
        ("windows", "{from: '01:00', to: '02:00'}", "0"),
        ("conditions", "{labels: [vip]}", "0"),
        ("approvers", "{who: ['*@example.com']}", "0"),
        ("functions.auto", "public.net_price", "public.net_price"),
        ("statements.auto", "delete", "delete"),
        ("schemas", "archive", "archive"),
    ],
)
def test_what_is_added_is_there_and_what_is_removed_is_not(section: str, entry: str, name: str) -> None:
    present = PRESENT
    if section == "statements.auto":  # which may name it only once it is not under approval
        present = removed(PRESENT, "statements.approval", "delete")
    more = added(present, section, entry)
    assert more != present
    assert parse_constraints(dump_constraints(more), source="again.yaml") == more
    assert removed(more, section, name) == present


def test_single_values_are_given_by_name_and_go_back_to_their_defaults() -> None:
    fewer = added(PRESENT, "limits", "{auto_rows_per_operation: 1}")
    assert fewer.limits == PRESENT.limits.model_copy(update={"auto_rows_per_operation": 1})
    assert removed(fewer, "limits", "auto_rows_per_operation") == PRESENT


def test_a_name_means_every_entry_about_it() -> None:
    both = parse_constraints(MORE, source="mine.yaml")
    both = added(both, "columns", "{table: public.orders, name: placed_at, class: pii}")
    assert [column.name for column in removed(both, "columns", "public.orders.placed_at").columns] == ["tax_id"]


@pytest.mark.parametrize(
    ("section", "entry", "message"),
    [
        ("tabels", "{name: public.a}", "'tabels' is no section of constraints; expected one of schemas, limits"),
        ("version", "1", "'version' is no section"),
        ("limits.auto_rows_per_operation", "1", "is no section"),
        ("tables", "{name: public.a, protectd: true}", "tables.4.protectd: Extra inputs"),
        ("tables", "{name: public.staff}", "named twice: public.staff"),
        ("tables", "{name: public.a", "the entry for tables: not valid YAML"),
        ("columns", "{table: public.customers, name: email, class: pii}", "columns has '{table"),
        ("schemas", "public", "schemas has 'public' already"),
        ("limits", "3", "limits holds values by name"),
        ("limits", "{auto_rows: 3}", "limits.auto_rows: Extra inputs"),
        ("statements.auto", "delete", "both name delete"),
        ("statements.auto", "truncate", "statements.auto.5"),
    ],
)
def test_what_can_not_be_added_is_refused_with_its_place(section: str, entry: str, message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        added(PRESENT, section, entry)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("section", "name", "message"),
    [
        ("tables", "public.stuff", "tables has no 'public.stuff'; it has public.customers, public.staff"),
        ("tables", "4", "tables has no '4'"),
        ("freezes", "1", "freezes has no '1'; it has 0"),
        ("windows", "0", "it has no entries"),
        ("limits", "rows", "limits has no 'rows'; it has auto_rows_per_operation"),
        ("target", "shop", "'target' is no section"),
    ],
)
def test_what_is_not_there_can_not_be_removed(section: str, name: str, message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        removed(PRESENT, section, name)
    assert message in str(refused.value)
