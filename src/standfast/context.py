"""The context: one document with what the database knows about a ticket."""

from datetime import datetime
from typing import Any

from standfast.domain import Record
from standfast.ticket import Ticket


class Column(Record):
    """One column as the target's catalog describes it."""

    name: str
    type: str
    """As PostgreSQL's format_type prints it."""
    nullable: bool
    default: str | None = None
    values: tuple[str, ...] = ()
    """The labels, if the type is an enum."""
    references: str | None = None
    """`schema.table.column`, if a foreign key points there."""
    comment: str = ""


class Table(Record):
    """One table of the target."""

    name: str
    """`schema.table`."""
    comment: str = ""
    primary_key: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()


class Rows(Record):
    """Rows read for this ticket, and the query that read them."""

    table: str
    query: str
    rows: tuple[dict[str, Any], ...]
    """Each row as PostgreSQL's to_jsonb gives it."""
    truncated: bool = False
    """True if more rows matched than are kept here."""


class Context(Record):
    """The state document of a ticket: everything the planner may rely on."""

    ticket: Ticket
    retrieved_at: datetime
    tables: tuple[Table, ...] = ()
    facts: tuple[Rows, ...] = ()
    masked: tuple[str, ...] = ()
    """Columns, `schema.table.column`, whose values are not shown to the planner, here or by its tools."""
    feedback: tuple[str, ...] = ()
    """Why the plan before was sent back: findings, or a person's comment. Empty for the first plan."""
