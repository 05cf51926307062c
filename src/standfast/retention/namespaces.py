"""Which Temporal namespace a control database is used with, and which tickets have ended there.

Content of a ticket that Temporal doesn't know any more is old: its history was removed after the namespace's retention.
Only, to a namespace of the same name on another server every ticket is unknown. So workers note the namespace's own id,
and nothing is taken for ended in another one.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from standfast import cluster
from standfast.errors import InvalidInput
from standfast.store.connections import Connection
from standfast.store.sql import statements

_SQL = statements(__package__, "places.sql")
_AT_ONCE = 8  # questions to Temporal


async def note(client: Client, connection: Connection) -> None:
    """Remember the namespace that this database is used with."""
    await connection.execute(_SQL["note_namespace"], {"name": client.namespace, "id": await _id(client)})


async def check(client: Client, connection: Connection) -> None:
    """Return if the database is used with this very namespace, and with no other.

    Raises:
        InvalidInput: it is not, or nobody knows.
    """
    noted = {row["name"]: row["id"] for row in await (await connection.execute(_SQL["namespaces"])).fetchall()}
    place = f"namespace {client.namespace} at {client.service_client.config.target_host}"
    if not noted:
        raise InvalidInput(
            f"no worker has noted yet that the control database is used with {place}; start one of the core pool"
        )
    if noted != {client.namespace: await _id(client)}:
        raise InvalidInput(
            f"the control database was used with another namespace than {place}, whose tickets are not known here; "
            "use that one, or, if it is gone for good, delete its row in standfast.namespace as the owner"
        )


async def ended(client: Client, tickets: Mapping[str, datetime], before: datetime) -> list[str]:
    """Return those of `tickets` that ended before a moment, sorted; the times are of their newest content."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def has_ended(ticket: str, newest: datetime) -> bool:
        async with slots:
            try:
                found = await client.get_workflow_handle(ticket).describe()
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                return newest < before
        return found.status is not WorkflowExecutionStatus.RUNNING and (found.close_time or before) < before

    answers = await asyncio.gather(*(has_ended(*item) for item in tickets.items()))
    return sorted(ticket for ticket, yes in zip(tickets, answers, strict=True) if yes)


async def _id(client: Client) -> str:
    return (await cluster.described(client)).namespace_info.id
