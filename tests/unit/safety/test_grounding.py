"""Every value of a plan comes from the ticket, from what was read for it, or from a playbook's own text."""

from datetime import UTC, datetime
from typing import Any

import pytest

from standfast.context import Column, Context, Rows, Table
from standfast.domain import MASK
from standfast.plan import Operation
from standfast.report import Finding
from standfast.safety.grammar.parsing import parse_statement
from standfast.safety.grounding import Ground, check_grounding
from standfast.ticket import Ticket

BODY = """Hello, order 1042 and order #77 arrived broken. Please refund 1,250.00 EUR, not 3.450,75 and not 12,50 (-7).
I paid on 2026-11-05 at 14:35. Write to Ana.Lima@example.com or call +351 555 0199. Postcode 69001.
The new street is  12  Rue   de la Paix."""
TICKET = Ticket.model_validate(
    {
        "id": "SUP-9001",
        "title": "Refund of order 1043",
        "body": BODY,
        "requester": "ana@example.com",
        "target": "shop",
        "subject": {"customer_id": 31, "sku": "AB-1"},
        "metadata": {"secret_id": 666},
    }
)
CONTEXT = Context(
    ticket=TICKET,
    retrieved_at=datetime(2026, 11, 6, tzinfo=UTC),
    tables=(
        Table(
            name="shop.orders",
            columns=(
                Column(name="status", type="shop.status", nullable=False, values=("paid", "refunded")),
                Column(name="country", type="text", nullable=False, default="'PT'::text"),
            ),
        ),
    ),
    facts=(
        Rows(
            table="shop.orders",
            query="orders 4242",
            rows=({"id": 1042, "total": 89.9, "placed_at": "2026-10-01T09:00:00+00:00", "tags": ["gift", 5]},),
        ),
    ),
)


def findings(sql: str, *params: Any, playbook: bool = False, context: Context | None = CONTEXT) -> list[Finding]:
    operation = Operation(sql=sql, params=params)
    known = frozenset({sql}) if playbook else frozenset()
    return list(check_grounding(operation, parse_statement(sql), Ground.of(TICKET, context), known))


def grounded(value: Any) -> bool:
    return not findings("SELECT $1", value)


@pytest.mark.parametrize(
    "value",
    [
        1042,
        "1042",
        1043,
        77,
        31,
        "AB-1",
        "ab-1",
        1250,
        1250.0,
        "1250.00",
        "1,250.00",
        "3450.75",
        "12.50",
        12.5,
        -7,
        "2026-11-05",
        "2026-11-05T00:00:00Z",
        "2026-11-05 00:00:00+00",
        "14:35",
        "Ana.Lima@example.com",
        "ana.lima@example.com",
        "ana@example.com",
        "SUP-9001",
        "69001",
        "12 Rue de la Paix",
        "refunded",
        "PT",
        89.9,
        "89.90",
        "2026-10-01T09:00:00+00:00",
        "gift",
        5,
        True,
        None,
        "",
        [1042, 77],
        {"any key": [1042, None, False]},
    ],
    ids=repr,
)
def test_what_was_said_or_read_is_grounded(value: Any) -> None:
    assert grounded(value)


@pytest.mark.parametrize(
    "value",
    [
        1044,
        "1044",
        10,
        104,
        9001,  # the ticket's own number is no number of the shop
        666,  # metadata says nothing
        4242,  # nor does the query that was run
        125000,
        1250.01,
        250,
        3450,
        2026,  # a part of a date
        11,
        35,
        "2026-11-06",
        "2026-11-05T13:37:00Z",  # the day was said, the time was not
        "lima@example.com",  # the end of a longer address
        "ana@example.co",
        "ana@example.com.evil.test",
        "example.com",
        "evil@example.com",
        "AB-12",
        "B-1",
        "Rue de la Pai",
        "cancelled",
        "NaN",
        [1042, 1044],
        {"id": 1044},
    ],
    ids=repr,
)
def test_what_is_made_up_is_not(value: Any) -> None:
    assert not grounded(value)


def test_every_value_that_is_made_up_is_named() -> None:
    (finding,) = findings("UPDATE a SET b = 'nowhere', c = 1042, d = 9.99 WHERE id = $1 AND e = $2", 5555, "paid")
    assert (finding.rule, finding.verdict) == ("grounding", "approval")
    assert finding.evidence == {"values": ["nowhere", "9.99", "5555"]}
    assert all(repr(value) in finding.message for value in ("nowhere", "9.99", "5555"))


def test_a_playbook_grounds_its_own_text_and_no_parameter() -> None:
    statement = "UPDATE a SET b = 'by a playbook', c = 99 WHERE id = $1"
    assert findings(statement, 1042, playbook=True) == []
    (finding,) = findings(statement, 5555, playbook=True)
    assert finding.evidence == {"values": ["5555"]}
    (finding,) = findings(statement, 1042)
    assert finding.evidence == {"values": ["by a playbook", "99"]}


def test_without_context_only_the_ticket_counts() -> None:
    assert findings("SELECT $1", 1042, context=None) == []
    assert findings("SELECT $1", 89.9, context=None) != []


def test_a_long_value_is_cut_in_the_message_only() -> None:
    (finding,) = findings("SELECT $1", "x" * 500)
    assert (len(finding.message) < 200, finding.evidence) == (True, {"values": ["x" * 500]})


def test_a_masked_value_is_nobodys_value() -> None:
    fact = Rows(table="shop.customers", query="", rows=({"id": 31, "email": MASK},))
    (finding,) = findings(
        "UPDATE customers SET email = $1", MASK, context=CONTEXT.model_copy(update={"facts": (fact,)})
    )
    assert finding.evidence == {"values": [MASK]}
