"""Chain, ledgers and Temporal's runs as streams in the order of workflow ids, so that nothing is held in memory."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import psycopg
from psycopg import AsyncServerCursor
from psycopg.rows import DictRow
from temporalio.client import Client

from standfast import visibility
from standfast.audit import Row
from standfast.errors import NotPermitted, ServiceUnavailable
from standfast.settings import Settings
from standfast.steps import TICKET
from standfast.store.connections import Connection, address, migrated, open_connection
from standfast.store.sql import statements
from standfast.verification import traces
from standfast.verification.evidence import Executed, Placed, Run

_SQL = statements(__package__, "verification.sql")
_FETCHED = 1000  # rows at once
_PATIENCE = 660.0  # seconds; the server's own limit is a little less, see `patience`


class OfTicket(Protocol):
    """Something about one ticket."""

    @property
    def workflow_id(self) -> str:
        """The ticket's."""


Found = TypeVar("Found")


async def grouped(*streams: AsyncIterator[Any]) -> AsyncIterator[tuple[str, list[list[Any]]]]:
    """Yield each workflow id with what each of the streams has of it."""
    heads: list[OfTicket | None] = [await anext(stream, None) for stream in streams]
    while any(heads):
        workflow_id = min(head.workflow_id for head in heads if head is not None)
        sides: list[list[Any]] = []
        for number, stream in enumerate(streams):
            side: list[Any] = []
            while (head := heads[number]) is not None and head.workflow_id == workflow_id:
                side.append(head)
                heads[number] = await anext(stream, None)
            sides.append(side)
        yield workflow_id, sides


async def batches(found: AsyncIterator[Found], size: int) -> AsyncIterator[list[Found]]:
    """Yield what is found, some at a time."""
    batch: list[Found] = []
    async for one in found:
        batch.append(one)
        if len(batch) == size:
            yield batch
            batch = []
    yield batch


async def by_ticket(control: Connection, head: int) -> AsyncIterator[Placed]:
    """Yield the chain's rows up to one with this number."""
    async with _cursor(control, "audit_by_ticket") as cursor:
        await cursor.execute(_SQL["by_ticket"], {"head": head})
        async for row in cursor:
            yield Placed.model_validate(row)


async def of_ticket(control: Connection, workflow_id: str) -> list[Row]:
    """Return the rows that the chain has of a ticket at this moment."""
    rows = await control.execute(_SQL["of_ticket"], {"workflow_id": workflow_id})
    return [Row.model_validate(row) for row in await rows.fetchall()]


async def executed(ledger: Connection) -> AsyncIterator[Executed]:
    """Yield what a ledger says was executed."""
    async with _cursor(ledger, "executed") as cursor:
        await cursor.execute(_SQL["executed"])
        async for row in cursor:
            yield Executed.model_validate(row)


async def runs(temporal: Client, targets: Sequence[str]) -> AsyncIterator[Run]:
    """Yield the runs of tickets that Temporal has; it lists them by time, so this list alone is held in memory."""
    query = f'WorkflowType = "{TICKET}"'
    if targets:
        names = ", ".join(f'"{target}"' for target in targets)
        query += f" AND {visibility.TARGET.name} IN ({names})"
    for workflow_id, run_id in sorted([run async for run in traces.runs(temporal, query)]):
        yield Run(workflow_id=workflow_id, run_id=run_id)


def control_url(settings: Settings) -> str:
    """Return the URL of the database that has the chain.

    Raises:
        NotPermitted: this process has none.
    """
    if settings.control.url is None:
        raise NotPermitted("this process has no URL of the control database; set control.url")
    return settings.control.url.get_secret_value()


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[Connection]:
    """A connection for long streams, without transactions in between; nothing can be changed by it.

    Raises:
        NotMigrated: our schema is missing there, or its role lacks a right.
        ServiceUnavailable: the server can't be reached, or was lost.
    """
    try:
        with migrated(url):
            async with await open_connection(url, schemas=("pg_catalog",), application="standfast audit") as connection:
                await connection.set_autocommit(True)
                await connection.execute(_SQL["patience"])
                connection.answer_seconds = _PATIENCE
                yield connection
    except psycopg.OperationalError as error:
        raise ServiceUnavailable(f"PostgreSQL at {address(url)}: {str(error).strip()}; try again") from error


def _cursor(connection: Connection, name: str) -> AsyncServerCursor[DictRow]:
    cursor = connection.cursor(name, withhold=True)
    cursor.itersize = _FETCHED
    return cursor
