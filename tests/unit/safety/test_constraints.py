"""The constraints file says exactly what it says: what is wrong in it is refused with its place."""

from datetime import UTC, datetime
from importlib.resources import files

import pytest

from standfast.errors import InvalidInput
from standfast.report import Verdict
from standfast.safety.constraints import Constraints, default_constraints, dump_constraints, parse_constraints
from standfast.ticket import Ticket

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
# The example of docs/safety.md
MORE = """
version: 1
target: shop
tables:
  - {name: billing.*, protected: true}
  - {name: public.history, writes: auto, approval: [select], block: [update, delete]}
  - {name: public.orders, writes: auto, auto_rows_per_operation: 1, approval_rows_per_operation: 100}
columns:
  - {table: public.orders, name: placed_at, protected: true}
  - {table: public.customers, name: tax_id, class: secret, protected: true}
values:
  - {table: public.orders, column: total, below: 0, verdict: block}
  - {table: public.customers, column: credit, above: 100, change_above: 25}
predicates:
  - {table: public.orders, columns: [tenant_id]}
windows:
  - {days: [mon, tue], from: "22:00", to: "04:00", timezone: Europe/Berlin, verdict: block}
conditions:
  - {labels: [vip, legal*], reason: important customer}
  - {requesters: ["*@example.com"], labels: [test], verdict: block}
approvers:
  - {tables: [public.payments], rules: [value.limit], who: ["*@finance.example.com"]}
"""


def parse(text: str) -> Constraints:
    return parse_constraints(f"version: 1\ntarget: shop\n{text}", source="mine.yaml")


@pytest.mark.parametrize(
    "text",
    [
        FULL,
        MORE,
        files("standfast.local.shop").joinpath("constraints.yaml").read_text("utf-8"),
        "version: 1\ntarget: x",
    ],
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


def test_a_schema_says_what_holds_for_its_tables_that_have_no_entry_of_their_own() -> None:
    constraints = parse(
        "tables: [{name: a.*, writes: auto}, {name: a.b, auto: [delete]}, {name: c.*, protected: true},"
        " {name: c.d, writes: auto, trigger_writes: allowed}]"
    )
    assert constraints.writes("a.x") is Verdict.AUTO
    assert constraints.writes("a.b") is Verdict.APPROVAL
    assert constraints.writes("b.a") is Verdict.APPROVAL
    assert constraints.writes("c.x") is Verdict.BLOCK
    assert constraints.writes("c.d") is Verdict.BLOCK, "the schema is protected, whatever else a table of it may be"
    assert constraints.table("c.d").trigger_writes == "allowed"


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
        ("columns: [{table: public.a, name: b}]", ["columns.0", "class is required"]),
        (
            "columns: [{table: public.a, name: b, protected: false}]",
            ["columns.0", "unless the column is protected"],
        ),
        ("tables: [{name: public.a, auto: [delete], block: [delete]}]", ["tables.0", "name delete twice"]),
        ("tables: [{name: public.a, block: [truncate]}]", ["tables.0.block.0", "'truncate'"]),
        ("tables: [{name: public.a, auto_rows_per_operation: -1}]", ["tables.0.auto_rows_per_operation", "-1"]),
        (
            "tables: [{name: public.a}, {name: public.b, approval_rows_per_operation: 9000}]",
            ["tables.1.approval_rows_per_operation", "9000 is above the limit of all tables, 6000"],
        ),
        ("values: [{table: public.a, column: b}]", ["values.0", "one of above, below and change_above is required"]),
        ("values: [{table: public.a, column: b, change_above: -1}]", ["values.0.change_above", "-1"]),
        ("predicates: [{table: public.a, columns: []}]", ["predicates.0.columns", "at least 1 item"]),
        ("predicates: [{table: a, columns: [b]}]", ["predicates.0.table", "'a'"]),
        ("windows: [{from: 12:30, to: '13:00'}]", ["windows.0.from", "write it in quotes", "750"]),
        ("windows: [{from: '24:00', to: '13:00'}]", ["windows.0.from", "'24:00'"]),
        ("windows: [{from: '12:00'}]", ["windows.0.to", "required"]),
        ("windows: [{from: '01:00', to: '02:00', days: [monday]}]", ["windows.0.days.0", "'monday'", "'mon'"]),
        ("windows: [{from: '01:00', to: '02:00', days: []}]", ["windows.0.days", "at least 1 item"]),
        ("windows: [{from: '01:00', to: '02:00', timezone: Mars}]", ["windows.0.timezone", "no time zone 'Mars'"]),
        ("windows: [{from: '01:00', to: '02:00', timezone: ../x}]", ["windows.0.timezone", "'../x'"]),
        ("windows: [{from: '01:00', to: '02:00', verdict: auto}]", ["windows.0.verdict", "'auto'"]),
        ("conditions: [{verdict: block}]", ["conditions.0", "one of requesters and labels is required"]),
        ("conditions: [{labels: [vip], verdict: auto}]", ["conditions.0.verdict", "'auto'"]),
        ("conditions: [{label: vip}]", ["conditions.0.label", "Extra inputs"]),
        ("approvers: [{tables: [public.a]}]", ["approvers.0.who", "required"]),
        ("approvers: [{who: []}]", ["approvers.0.who", "at least 1 item"]),
        ("approvers: [{who: ['']}]", ["approvers.0.who.0", "at least 1 character"]),
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
        ("freezes: [{from: 2026-13-45, to: 2026-12-24}]", ["not valid YAML", "month"]),
        ("a: 0x_", ["not valid YAML"]),
        ("a: !!bool x", ["not valid YAML"]),
        ("a: !!timestamp x", ["not valid YAML"]),
        pytest.param("a: " + "[" * 5000, ["not valid YAML", "nested too deeply"], id="nested too deeply"),
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


BERLIN = "days: [mon, tue], from: '22:00', to: '04:00', timezone: Europe/Berlin"


@pytest.mark.parametrize(
    ("window", "at", "is_open"),
    [
        ("from: '02:00', to: '04:00'", "2026-11-23T02:00Z", True),
        ("from: '02:00', to: '04:00'", "2026-11-23T03:59:59Z", True),
        ("from: '02:00', to: '04:00'", "2026-11-23T04:00Z", False),
        ("from: '02:00', to: '04:00', days: [tue]", "2026-11-23T03:00Z", False),
        ("from: '00:00', to: '00:00'", "2026-11-23T13:00Z", True),
        (BERLIN, "2026-11-23T20:59Z", False),
        (BERLIN, "2026-11-23T21:00Z", True),
        (BERLIN, "2026-11-23T01:00Z", False),  # of Sunday's night, which is none of its days
        (BERLIN, "2026-11-25T02:59Z", True),  # of Tuesday's night, although it is Wednesday
        (BERLIN, "2026-11-25T03:00Z", False),
        (BERLIN, "2026-07-06T20:00Z", True),  # summer time
    ],
)
def test_a_window_is_open_by_the_clock_on_the_wall(window: str, at: str, is_open: bool) -> None:
    constraints = parse(f"windows: [{{{window}}}]")
    assert constraints.windows[0].is_open(datetime.fromisoformat(at)) is is_open


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("labels: [vip]", True),
        ("labels: [VIP, other]", True),
        ("labels: [vi]", False),
        ("labels: [bill*]", True),
        ("requesters: [ana@example.com]", True),
        ("requesters: ['*@EXAMPLE.com']", True),
        ("requesters: ['*@example.org']", False),
        ("requesters: ['*@example.com'], labels: [other]", False),
        ("requesters: ['*@example.com'], labels: [billing]", True),
    ],
)
def test_a_condition_holds_for_requester_and_labels_together(condition: str, holds: bool) -> None:
    ticket = Ticket(id="T-1", body="b", requester="Ana@example.com", target="shop", labels=("vip", "billing"))
    assert parse(f"conditions: [{{{condition}}}]").conditions[0].holds(ticket) is holds


@pytest.mark.parametrize(
    ("scope", "applies"),
    [
        ("", True),
        ("tables: [public.orders]", True),
        ("tables: [public.*]", True),
        ("tables: [public.payments]", False),
        ("rules: [value.limit]", True),
        ("rules: [freeze]", False),
        ("tables: [public.payments], rules: [value.*]", True),
    ],
)
def test_a_scope_of_approvers_applies_by_table_or_by_rule(scope: str, applies: bool) -> None:
    approvers = parse(f"approvers: [{{who: [a], {scope}}}]").approvers
    assert approvers[0].applies({"public.orders"}, {"value.limit"}) is applies


@pytest.mark.parametrize("kinds", ["{auto: [update]}", "{auto: [select, explain], approval: [update]}", "{}"])
def test_kinds_that_are_exported_are_the_same_when_they_are_imported(kinds: str) -> None:
    constraints = parse(f"statements: {kinds}")
    assert parse_constraints(dump_constraints(constraints), source="again.yaml") == constraints
