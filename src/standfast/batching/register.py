"""The register: the tickets of batches in the control database, and the state of each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from psycopg import AsyncCursor
from psycopg.rows import DictRow
from temporalio.client import Client

from standfast.batch import Ended, Ending, NumberedTicket, Result, States, TicketState
from standfast.codec.requesters import requester_marks
from standfast.codec.sealing import Seal
from standfast.errors import BatchConflict, InvalidInput, PayloadLost, UnknownBatch
from standfast.store.connections import Connection
from standfast.store.sql import statements
from standfast.ticket import Ticket

_SQL = statements(__package__, "register.sql")
_PAGE = 100  # tickets...
_PAGE_BYTES = 128 * 1024  # ...or so many bytes of them are read together; the batch's history keeps them for a while
_RESULTS = 500
COPIED = 1_000  # tickets...
COPIED_BYTES = 8 * 1024 * 1024  # ...or so many bytes in one statement: more could take longer than statements may
MAX_TICKET_BYTES = 1024 * 1024  # a payload of Temporal's has at most twice as many

Cursor = AsyncCursor[DictRow]


Numbered = tuple[int, tuple[int, Ticket]]
"""A ticket with its position in the batch and its line in the file."""


def statement_sized(tickets: Iterable[Numbered]) -> Iterator[list[Numbered]]:
    """Yield tickets in their order, together as many as one statement may take; a larger one comes alone."""
    some: list[Numbered] = []
    size = 0
    for numbered in tickets:
        own = numbered[1][1].size
        if some and (len(some) == COPIED or size + own > COPIED_BYTES):
            yield some
            some, size = [], 0
        some.append(numbered)
        size += own
    if some:
        yield some


class Register:
    """The register of one batch. What it stores is encrypted as the payloads of the tickets' workflows are."""

    def __init__(self, batch_id: str, connection: Connection, temporal: Client) -> None:
        self._batch_id = batch_id
        self._connection = connection
        self._converter = temporal.data_converter
        self._seal = Seal(temporal.data_converter, temporal.namespace)

    async def create(self, digest: str, tickets: Sequence[tuple[int, Ticket]], *, source: str) -> None:
        """Write down a batch of tickets, each with its line in `source`, unless it is there already.

        Raises:
            BatchConflict: another batch has its id.
            InvalidInput: a ticket is too large.
        """
        created = await self._run("create", digest=digest, tickets=len(tickets))
        if created.rowcount == 0:
            if await self.digest() != digest:
                raise BatchConflict(f"batch {self._batch_id} has other tickets; use another --id")
            return
        for some in statement_sized(enumerate(tickets)):
            rows = [
                (position, line, one.workflow_id, await self._ticket(one, f"{source}, line {line}"))
                for position, (line, one) in some
            ]
            async with self._connection.cursor().copy(_SQL["fill"]) as copy:
                for row in rows:
                    await copy.write_row((self._batch_id, *row))

    async def digest(self) -> str:
        """Return the digest of the batch's tickets.

        Raises:
            UnknownBatch: no such batch.
        """
        row = await (await self._run("digest")).fetchone()
        if row is None:
            raise UnknownBatch(f"unknown batch {self._batch_id}")
        digest: str = row["digest"]
        return digest

    async def page(self, first: int) -> tuple[NumberedTicket, ...]:
        """Return the next tickets that were not started, from a position on.

        Raises:
            PayloadLost: one was purged.
        """
        return await self._tickets(await self._run("page", first=first, limit=_PAGE, bytes=_PAGE_BYTES))

    async def tickets(self, positions: Sequence[int]) -> tuple[NumberedTicket, ...]:
        """Return the tickets at these positions.

        Raises: as `page` does.
        """
        return await self._tickets(await self._run("tickets", positions=list(positions)))

    async def take_back(self) -> None:
        """Note that tickets that were under way are to be handed out again; who was started is found then."""
        await self._run("take_back")

    async def hand_out(self, handed_out: int) -> None:
        """Note that the tickets before a position were started."""
        await self._run("hand_out", handed_out=handed_out)

    async def leave_out(self, handed_out: int) -> None:
        """Note that those from a position on will not be started."""
        await self._run("leave_out", handed_out=handed_out)

    async def meet(self, positions: Sequence[int]) -> None:
        """Note that tickets were there before the batch."""
        await self._run("meet", positions=list(positions))

    async def note(self, states: Mapping[int, TicketState]) -> None:
        """Note the states of tickets that have not ended, by their positions."""
        await self._run("note", positions=list(states), states=[s.value for s in states.values()])

    async def end(self, endings: Iterable[Ended]) -> None:
        """Note how tickets ended; what was noted first holds."""
        by_position = {ended.position: ended.ending for ended in endings}
        ids = await self._ids("workflow_ids", positions=list(by_position))
        await self._run(
            "end",
            positions=list(ids),
            states=[by_position[position].state.value for position in ids],
            endings=[await self._seal.close(one, by_position[position]) for position, one in ids.items()],
            ended_at=[by_position[position].ended_at for position in ids],
        )

    async def silent(self, positions: Sequence[int]) -> dict[int, str]:
        """Return position and workflow id of those that have not ended."""
        return await self._ids("silent", positions=list(positions))

    async def others(self, than: Sequence[int], handed_out: int, after: int, limit: int) -> dict[int, str]:
        """Return position and workflow id of the next ones that have not ended, beside those at some positions.

        Who asks late finds none that were handed out meanwhile: they may not have been started yet.
        """
        return await self._ids("others", than=list(than), handed_out=handed_out, after=after, limit=limit)

    async def started(self, after: int, limit: int) -> dict[int, str]:
        """Return position and workflow id of the next ones that the batch has started and that have not ended."""
        return await self._ids("started", after=after, limit=limit)

    async def freed(self, window: Sequence[int]) -> tuple[int, ...]:
        """Return the positions that need no place in the window any more."""
        rows = await (await self._run("freed", window=list(window))).fetchall()
        return tuple(row["position"] for row in rows)

    async def states(self) -> States:
        """Count the tickets by their states."""
        rows = await (await self._run("states")).fetchall()
        return {TicketState(row["state"]): row["tickets"] for row in rows}

    async def results(self, after: int) -> list[Result]:
        """Return the next results after a position, none if there are no more."""
        rows = await (await self._run("results", after=after, limit=_RESULTS)).fetchall()
        endings = [row["ending"] and await self._seal.open(row["workflow_id"], Ending, row["ending"]) for row in rows]
        return [Result.model_validate(row | {"ending": e}) for row, e in zip(rows, endings, strict=True)]

    async def _run(self, statement: str, **parameters: Any) -> Cursor:
        return await self._connection.execute(_SQL[statement], {"batch_id": self._batch_id, **parameters})

    async def _ids(self, statement: str, **parameters: Any) -> dict[int, str]:
        rows = await (await self._run(statement, **parameters)).fetchall()
        return {row["position"]: row["workflow_id"] for row in rows}

    async def _tickets(self, cursor: Cursor) -> tuple[NumberedTicket, ...]:
        return tuple([await self._numbered(row) for row in await cursor.fetchall()])

    async def _numbered(self, row: DictRow) -> NumberedTicket:
        if not row["ticket"]:
            raise PayloadLost(
                f"{row['workflow_id']} was purged from batch {self._batch_id}; start its file under another --id"
            )
        ticket = await self._seal.open(row["workflow_id"], Ticket, row["ticket"])
        mark, *_ = requester_marks(self._converter, ticket.requester)
        return NumberedTicket(position=row["position"], ticket=ticket, requester_mark=mark)

    async def _ticket(self, ticket: Ticket, place: str) -> bytes:
        stored = await self._seal.close(ticket.workflow_id, ticket)
        if len(stored) > MAX_TICKET_BYTES:
            raise InvalidInput(
                f"{place}: {ticket.workflow_id} has {len(stored)} bytes, at most {MAX_TICKET_BYTES} are allowed; "
                "leave out what its subject and metadata need not have"
            )
        return stored
