"""What `standfast check` does: the safety report of a plan for any PostgreSQL URL, with no Temporal running."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime

import psycopg

from standfast.documents import read_json, validate
from standfast.errors import ServiceUnavailable, first_line
from standfast.plan import Plan
from standfast.report import SafetyReport
from standfast.safety.constraints import Constraints, default_constraints
from standfast.safety.grounding import Ground
from standfast.safety.schema_check import check_against_schema
from standfast.safety.self_test import Attempt, self_test
from standfast.safety.validation import Circumstances, assess
from standfast.store.connections import Connection, address, open_connections
from standfast.ticket import Ticket


async def check(
    plan: Plan,
    *,
    url: str,
    target: str,
    schemas: Sequence[str],
    constraints: Constraints | None,
    ticket: Ticket | None,
) -> SafetyReport:
    """Return the safety report of `plan` for the database at `url`; nothing is changed.

    Without constraints the strict default ones hold; without a ticket grounding is skipped.

    Raises:
        InvalidInput: the URL is none, or the constraints name tables or columns that the database doesn't have.
        ServiceUnavailable: the database can't be reached, or was lost.
    """
    given = constraints or default_constraints(target, schemas)
    circumstances = Circumstances(
        target=target,
        constraints=given,
        ground=Ground.of(ticket, None) if ticket is not None else None,
        now=datetime.now(UTC),
        ticket=ticket,
    )
    async with _twins(url, given) as pair:
        return (await assess(plan, circumstances, lambda: nullcontext(pair))).report


async def check_locks(
    *, url: str, target: str, schemas: Sequence[str], constraints: Constraints | None
) -> list[Attempt]:
    """Return what stops each statement of the self-test at the database of `url`; nothing is changed.

    Raises:
        InvalidInput: as for `check`.
        ServiceUnavailable: as for `check`.
    """
    given = constraints or default_constraints(target, schemas)
    async with _twins(url, given) as pair:
        return await self_test(target, given, lambda: nullcontext(pair))


@asynccontextmanager
async def _twins(url: str, constraints: Constraints) -> AsyncIterator[tuple[Connection, Connection]]:
    change, observer = await open_connections(url, 2, schemas=constraints.schemas, application="standfast check")
    async with change, observer:
        try:
            await check_against_schema(change, constraints, source="constraints")
            yield change, observer
        except psycopg.OperationalError as error:
            reason = first_line(error)
            raise ServiceUnavailable(f"PostgreSQL at {address(url)} was lost: {reason}") from error


def parse_plan(text: str, *, source: str) -> Plan:
    """Return the plan that a JSON document is; an array is one of operations.

    Raises:
        InvalidInput: naming source, line, field, value and what was expected.
    """
    value = read_json(text, source=source)
    given = {"operations": value} if isinstance(value, list) else value
    return validate(Plan, given, source=source, line=1, text=text)
