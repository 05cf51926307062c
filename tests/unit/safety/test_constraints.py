"""The constraints file says exactly what it says: what is wrong in it is refused with its place."""

from datetime import UTC, datetime
from importlib.resources import files

import pytest

from standfast.errors import InvalidInput
from standfast.report import Verdict
from standfast.safety.constraints import Constraints, default_constraints, dump_constraints, parse_constraints

# The example of docs/interfaces.md
FULL = """
version: 1
target: shop
schemas: [public]
tables_default: approval
limits: {auto_rows_per_operation: 5, auto_rows_per_plan: 15, approval_rows_per_operation: 6000,
         operations_per_plan: 50, statement_bytes: 65536, statement_timeout_ms: 2000}
statements:
  auto: [select, insert, update, merge, explain]
  approval: [delete, create_index, add_column, add_enum_value]
tables:
  - {name: public.customers, writes: auto}
  - {name: public.staff, protected: true}
  - {name: public.customers_audit, protected: true, trigger_writes: allowed}
  - {name: public.ticket_note, writes: auto, auto: [delete]}
columns:
  - {table: public.customers, name: tax_id, class: secret}
  - {table: public.customers, name: email, class: pii}
  - {table: public.payments, name: amount, class: money}
values:
  - {table: public.refunds, column: amount, above: 100, verdict: approval}
functions: {auto: [], approval: [public.*], block: []}
freezes:
  - {from: "2026-12-24T00:00Z", to: "2026-12-27T00:00Z", verdict: approval, reason: "holiday freeze"}
quorum: {approval: 1, critical: 2}
"""


def parse(text: str) -> Constraints:
    return parse_constraints(f"version: 1\ntarget: shop\n{text}", source="mine.yaml")


@pytest.mark.parametrize(
    "text",
    [FULL, files("standfast.local.shop").joinpath("constraints.yaml").read_text("utf-8"), "version: 1\ntarget: x"],
)
def test_what_is_exported_can_be_imported_again(text: str) -> None:
    constraints = parse_constraints(text, source="mine.yaml")
    assert parse_constraints(dump_constraints(constraints), source="again.yaml") == constraints


def test_the_published_example_means_what_it_says() -> None:
    constraints = parse_constraints(FULL, source="mine.yaml")
    assert constraints.writes("public.customers") is Verdict.AUTO
    assert constraints.writes("public.staff") is Verdict.BLOCK
    assert constraints.writes("public.unlisted") is Verdict.APPROVAL
    assert constraints.table("public.ticket_note").auto == ("delete",)
    assert constraints.freezes[0].start == datetime(2026, 12, 24, tzinfo=UTC)


def test_without_constraints_every_write_needs_a_person() -> None:
    constraints = default_constraints("shop", ["a", "b"])
    assert constraints.schemas == ("a", "b")
    assert set(constraints.statements.auto) == {"select", "explain"}
    assert constraints.writes("a.b") is Verdict.APPROVAL


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("tabels: []", ["tabels", "Extra inputs"]),
        ("tables: [{name: public.a, protectd: true}]", ["tables.0.protectd", "Extra inputs", "True"]),
        ("tables: [{name: a}]", ["tables.0.name", "'a'"]),
        ("tables: [{name: public.a}, {name: public.a, protected: true}]", ["named twice: public.a"]),
        ("tables: [{name: public.a, writes: never}]", ["tables.0.writes", "'never'", "'auto', 'approval' or 'block'"]),
        ("columns: [{table: public.a, name: b, class: secrt}]", ["columns.0.class", "'secrt'"]),
        ("columns: [{table: public.a, name: b}]", ["columns.0.class", "required"]),
        ("values: [{table: public.a, column: b, above: much}]", ["values.0.above", "'much'"]),
        ("values: [{table: public.a, column: b, above: .nan}]", ["values.0.above", "finite"]),
        ("values: [{table: public.a, column: b, above: .inf}]", ["values.0.above", "finite"]),
        ("limits: {auto_rows_per_operation: -1}", ["limits.auto_rows_per_operation", "-1"]),
        ("limits: {statement_bytes: 100000}", ["limits.statement_bytes", "65536"]),
        ("statements: {auto: [truncate]}", ["statements.auto.0", "'truncate'"]),
        ("statements: {auto: [delete], approval: [delete]}", ["both name delete"]),
        ("freezes: [{from: 2026-12-27, to: 2026-12-24}]", ["freezes.0", "before it begins"]),
        ("freezes: [{from: soon, to: 2026-12-24}]", ["freezes.0.from", "'soon'"]),
        ("freezes: [{from: 2026-12-24, to: 2026-12-27, verdict: auto}]", ["freezes.0.verdict", "'auto'"]),
        ("quorum: {critical: 0}", ["quorum.critical", "0"]),
        ("functions: {auto: [lower]}", ["functions.auto.0", "'lower'"]),
        ("tables: [", ["not valid YAML", "line 3"]),
        ("tables: []\ntables: [{name: public.a}]", ["not valid YAML", "'tables' occurs twice", "line 4"]),
        ("tables: [{name: public.a, protected: true, protected: false}]", ["'protected' occurs twice"]),
        ("a: !!python/object:os.system x", ["not valid YAML"]),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(text: str, messages: list[str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(text)
    assert [message for message in ["mine.yaml", *messages] if message not in str(refused.value)] == []


@pytest.mark.parametrize("text", ["", "[]", "text", "version: 2\ntarget: shop", "version: 1"])
def test_what_is_no_constraints_file_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^mine\.yaml: "):
        parse_constraints(text, source="mine.yaml")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-12-24", datetime(2026, 12, 24, tzinfo=UTC)),
        ("'2026-12-24'", datetime(2026, 12, 24, tzinfo=UTC)),
        ("2026-12-24T10:00:00", datetime(2026, 12, 24, 10, tzinfo=UTC)),
        ("2026-12-24T10:00:00+02:00", datetime(2026, 12, 24, 8, tzinfo=UTC)),
        ("'2026-12-24T10:00Z'", datetime(2026, 12, 24, 10, tzinfo=UTC)),
    ],
)
def test_a_freeze_begins_when_it_says_in_utc_unless_it_says_otherwise(written: str, meant: datetime) -> None:
    constraints = parse(f"freezes: [{{from: {written}, to: 2027-01-01}}]")
    assert constraints.freezes[0].start == meant


def test_kinds_that_only_one_list_names_are_not_in_the_other() -> None:
    statements = parse_constraints("{version: 1, target: shop, statements: {auto: [update]}}", source="test").statements
    assert (statements.auto, statements.approval) == (("update",), ())
