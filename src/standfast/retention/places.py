"""The places where content of tickets is kept, and how it is removed from each.

A ticket is named by its workflow id. What its planners, and rehearsals beside it, left belongs to it. A batch is named
and ends like a ticket.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Protocol

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from standfast.steps import BATCH, PLANNER, REHEARSAL, TICKET, ticket_of
from standfast.storage.s3 import S3Driver, Stored
from standfast.store.connections import Connection
from standfast.store.sql import statements

NOBODY = ""
"""Stands for a ticket where content belongs to none, so that its age alone counts."""
Counts = Counter[str]
"""What is kept, under names for machines."""
_SQL = statements(__package__, "places.sql")
_TYPES = (TICKET, PLANNER, REHEARSAL, BATCH)
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Place(Protocol):
    """Somewhere where content of tickets is kept."""

    async def tickets(self) -> dict[str, datetime]:
        """Return the tickets whose content may be old enough, with the time of the newest."""

    async def count(self, tickets: Sequence[str]) -> Counts:
        """Return how much is kept of these tickets."""

    async def erase(self, tickets: Sequence[str]) -> None:
        """Remove the content of these tickets, of each all or nothing. Once more changes nothing."""


@dataclass(kw_only=True)
class Content:
    """One kind of content in the control database: the statements NAME, count_NAME and erase_NAME know it."""

    name: str
    connection: Connection
    namespace: str
    before: datetime
    _keys: dict[str, list[str]] = field(default_factory=dict)
    """Of a ticket's rows: workflow ids, or those of batches."""

    async def tickets(self) -> dict[str, datetime]:
        """See `Place`."""
        parameters = {"namespace": self.namespace, "before": self.before}
        rows = await (await self.connection.execute(_SQL[self.name], parameters)).fetchall()
        self._keys = {row["ticket"]: row["keys"] for row in rows}
        return {row["ticket"]: row["newest"] for row in rows}

    async def count(self, tickets: Sequence[str]) -> Counts:
        """See `Place`."""
        cursor = await self.connection.execute(_SQL[f"count_{self.name}"], self._of(tickets))
        return Counter(await cursor.fetchone())

    async def erase(self, tickets: Sequence[str]) -> None:
        """See `Place`; one statement a ticket, as the payloads of one may take their time already."""
        for ticket in tickets:
            await self.connection.execute(_SQL[f"erase_{self.name}"], self._of([ticket]))

    def _of(self, tickets: Sequence[str]) -> dict[str, Any]:
        keys = chain.from_iterable(self._keys.get(ticket, ()) for ticket in tickets)
        return {"namespace": self.namespace, "keys": list(keys)}


@dataclass(kw_only=True)
class Bucket:
    """Payloads in a bucket."""

    driver: S3Driver
    namespace: str
    before: datetime
    _objects: dict[str, list[Stored]] = field(default_factory=dict)

    async def tickets(self) -> dict[str, datetime]:
        """See `Place`."""
        async for found in self.driver.stored(self.namespace):
            self._objects.setdefault(ticket_of(found.workflow_id), []).append(found)
        return {
            ticket: max(found.stored_at for found in objects)
            for ticket, objects in self._objects.items()
            if min(found.stored_at for found in objects) < self.before
        }

    async def count(self, tickets: Sequence[str]) -> Counts:
        """See `Place`."""
        objects = self._of(tickets)
        return Counter(payloads=len(objects), payload_bytes=sum(found.size for found in objects))

    async def erase(self, tickets: Sequence[str]) -> None:
        """See `Place`."""
        await self.driver.remove([found.key for found in self._of(tickets)])

    def _of(self, tickets: Sequence[str]) -> list[Stored]:
        return list(chain.from_iterable(self._objects.get(ticket, ()) for ticket in tickets))


@dataclass(kw_only=True)
class Expired:
    """What has lost its meaning by itself: sessions, login links, and which rows a plan would have changed."""

    connection: Connection
    before: datetime

    async def tickets(self) -> dict[str, datetime]:
        """See `Place`."""
        return {NOBODY: _LONG_AGO}

    async def count(self, tickets: Sequence[str]) -> Counts:
        """See `Place`."""
        if NOBODY not in tickets:
            return Counter()
        cursor = await self.connection.execute(_SQL["count_expired"], {"before": self.before})
        return Counter(await cursor.fetchone())

    async def erase(self, tickets: Sequence[str]) -> None:
        """See `Place`."""
        if NOBODY in tickets:
            await self.connection.execute(_SQL["erase_expired"], {"before": self.before})


@dataclass(kw_only=True)
class Ledger:
    """The ledger of a target: what was executed stays on record, with which values does not."""

    connection: Connection
    before: datetime
    reason: str
    """Why a plan can't be taken back any more."""

    async def tickets(self) -> dict[str, datetime]:
        """See `Place`."""
        rows = await (await self.connection.execute(_SQL["executed"], {"before": self.before})).fetchall()
        return {row["ticket"]: row["newest"] for row in rows}

    async def count(self, tickets: Sequence[str]) -> Counts:
        """See `Place`."""
        cursor = await self.connection.execute(_SQL["count_images"], {"tickets": list(tickets)})
        return Counter(await cursor.fetchone())

    async def erase(self, tickets: Sequence[str]) -> None:
        """See `Place`."""
        parameters = {"tickets": list(tickets), "reason": self.reason}
        async with self.connection.transaction():
            for statement in ("erase_images", "erase_undo", "erase_statements"):
                await self.connection.execute(_SQL[statement], parameters)


@dataclass(kw_only=True)
class Histories:
    """The histories in Temporal, which removes them by itself after the namespace's retention."""

    client: Client
    before: datetime
    _runs: dict[str, list[WorkflowExecution]] = field(default_factory=dict)

    async def tickets(self) -> dict[str, datetime]:
        """See `Place`."""
        types = ", ".join(f'"{name}"' for name in _TYPES)
        moment = self.before.astimezone(UTC).isoformat()
        query = f'WorkflowType IN ({types}) AND ExecutionStatus != "Running" AND CloseTime < "{moment}"'
        newest: dict[str, datetime] = {}
        async for found in self.client.list_workflows(query):
            ticket = ticket_of(found.id)
            self._runs.setdefault(ticket, []).append(WorkflowExecution(workflow_id=found.id, run_id=found.run_id))
            newest[ticket] = max(newest.get(ticket, _LONG_AGO), found.close_time or _LONG_AGO)
        return newest

    async def count(self, tickets: Sequence[str]) -> Counts:
        """See `Place`."""
        return Counter(histories=sum(len(self._runs.get(ticket, ())) for ticket in tickets))

    async def erase(self, tickets: Sequence[str]) -> None:
        """See `Place`."""
        for run in chain.from_iterable(self._runs.get(ticket, ()) for ticket in tickets):
            request = DeleteWorkflowExecutionRequest(namespace=self.client.namespace, workflow_execution=run)
            try:
                await self.client.workflow_service.delete_workflow_execution(request)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:  # its retention was quicker
                    raise
