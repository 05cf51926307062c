"""The activities of batches: they read the register, keep it, and look at tickets from which nothing was heard."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from temporalio import activity

from standfast.batch import (
    LOOKED_AT,
    Cancelled,
    CancelRequest,
    Ended,
    Ending,
    NumberedTicket,
    Page,
    PageRequest,
    Recorded,
    RecordRequest,
    TicketState,
    workflow_id,
)
from standfast.batching.register import Register
from standfast.client import Standfast
from standfast.errors import DecisionRefused, PayloadLost, PayloadRefused, TicketConflict, UnknownTicket
from standfast.outcome import State
from standfast.settings import Settings
from standfast.steps import BATCH_CANCEL, BATCH_PAGE, BATCH_RECORD
from standfast.store.databases import Databases
from standfast.together import together
from standfast.visibility import TicketRow

_AT_ONCE = 8  # requests to Temporal
_FEW = 50  # tickets that are looked at one by one
_LOST = (
    "It ended so long ago that Temporal has removed it; the target's standfast.ledger tells whether it was executed."
)


class Batching:
    """What the core pool does for batches."""

    def __init__(self, databases: Databases, settings: Settings) -> None:
        self._databases = databases
        self._settings = settings

    @activity.defn(name=BATCH_PAGE.name)
    async def page(self, request: PageRequest) -> Page:
        """Return the next tickets.

        Raises:
            ServiceUnavailable: the control database can't be reached.
        """
        async with self._register(request.batch_id) as register:
            if request.first == 0:
                await register.take_back()  # of an earlier workflow of this batch, which did not get to its end
            return Page(tickets=await register.page(request.first))

    @activity.defn(name=BATCH_RECORD.name)
    async def record(self, request: RecordRequest) -> Recorded:
        """Write down what the workflow saw, look at what it didn't see, and count.

        Raises:
            ServiceUnavailable: the control database or Temporal can't be reached.
        """
        async with self._register(request.batch_id) as register:
            await register.hand_out(request.handed_out)
            await register.end(request.ended)
            met = await register.tickets(request.met)
            heard = (*request.window, *request.met)
            others = await register.others(heard, request.handed_out, request.looked_up_to, LOOKED_AT)
            unheard = others | await register.silent(request.silent)
        looks = _Looks(Standfast(activity.client(), self._settings), workflow_id(request.batch_id))
        await looks.meet(met)
        await looks.look(unheard)
        async with self._register(request.batch_id) as register:
            await register.meet(looks.there_before)
            await register.note(looks.under_way)
            await register.end(looks.ended)
            return Recorded(
                states=await register.states(),
                freed=await register.freed(request.window),
                looked_up_to=_last(others),
            )

    @activity.defn(name=BATCH_CANCEL.name)
    async def cancel(self, request: CancelRequest) -> Cancelled:
        """Leave out what was not started, and ask some tickets that the batch has started to end, if that is wanted.

        Raises:
            ServiceUnavailable: the control database or Temporal can't be reached.
        """
        async with self._register(request.batch_id) as register:
            await register.hand_out(request.handed_out)
            await register.leave_out(request.handed_out)
            started = await register.started(request.after, LOOKED_AT) if request.tickets else {}
        tickets, slots = Standfast(activity.client(), self._settings), asyncio.Semaphore(_AT_ONCE)

        async def ask(ticket: str) -> None:
            async with slots:
                with suppress(DecisionRefused, UnknownTicket):  # it has ended meanwhile
                    await tickets.cancel(ticket)

        await together(map(ask, started.values()))
        return Cancelled(asked_up_to=_last(started))

    @asynccontextmanager
    async def _register(self, batch_id: str) -> AsyncIterator[Register]:
        async with self._databases.control() as connection:
            yield Register(batch_id, connection, activity.client())


class _Looks:
    """What Temporal knows about tickets of a batch."""

    def __init__(self, tickets: Standfast, batch: str) -> None:
        self._tickets = tickets
        self._batch = batch
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self.there_before: list[int] = []
        self.under_way: dict[int, TicketState] = {}
        self.ended: list[Ended] = []

    async def meet(self, tickets: Iterable[NumberedTicket]) -> None:
        """Look at tickets whose ids are in use: is it they?"""
        await together(map(self._meet, tickets))

    async def look(self, workflow_ids: Mapping[int, str]) -> None:
        """Look at tickets, given by their positions."""
        # The visibility store lags behind, and that of the embedded server reads all that it has to find these.
        rows = await self._tickets.lists.rows(list(workflow_ids.values())) if len(workflow_ids) > _FEW else {}
        await together(self._see(position, one, rows.get(one)) for position, one in workflow_ids.items())

    async def _meet(self, numbered: NumberedTicket) -> None:
        async with self._slots:
            try:
                row = await self._tickets.find(numbered.ticket)
            except TicketConflict as error:
                self._end(numbered.position, _now(TicketState.REFUSED, str(error)))
                return
            except (PayloadRefused, PayloadLost) as error:
                self._end(numbered.position, _now(TicketState.FAILED, str(error)))
                return
            except UnknownTicket:
                row = None
        if row is not None and row.batch != self._batch:
            self.there_before.append(numbered.position)
        await self._see(numbered.position, numbered.ticket.workflow_id, row)

    async def _see(self, position: int, ticket: str, row: TicketRow | None) -> None:
        async with self._slots:
            try:
                known = row or await self._tickets.row(ticket)
                if known.closed_at is None:
                    waits = known.state is State.WAITING
                    self.under_way[position] = TicketState.WAITING if waits else TicketState.RUNNING
                else:
                    self._end(position, await self._ending(known, known.closed_at))
            except UnknownTicket:
                self._end(position, _now(TicketState.FAILED, _LOST))

    async def _ending(self, closed: TicketRow, at: datetime) -> Ending:
        try:
            return Ending.of(await self._tickets.wait(closed.workflow_id), at)
        except (PayloadRefused, PayloadLost) as error:  # nothing heals it, and it is no reason to stop all others
            return Ending(state=TicketState(closed.state.value), reason=str(error), ended_at=at)

    def _end(self, position: int, ending: Ending) -> None:
        self.ended.append(Ended(position=position, ending=ending))


def _last(found: Mapping[int, str]) -> int:
    """Return the last position of those that were looked for, -1 if there are no more."""
    return max(found) if len(found) == LOOKED_AT else -1


def _now(state: TicketState, reason: str) -> Ending:
    return Ending(state=state, reason=reason, ended_at=datetime.now(UTC))
