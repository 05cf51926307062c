"""The one way in: submit, look, decide, cancel. Page, command line and API stand on this class."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Self
from weakref import WeakValueDictionary

from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError

from standfast import audit, cluster, listing
from standfast.carried import Start
from standfast.codec.reading import reveal
from standfast.codec.requesters import requester_marks
from standfast.decision import Decision, DecisionRecord, DecisionVerdict, Mode, Refusal
from standfast.documents import validate
from standfast.domain import Record
from standfast.drafts import Draft
from standfast.errors import (
    DecisionRefused,
    DecisionUnheard,
    DecisionUnrecorded,
    NotPermitted,
    ServiceUnavailable,
    StandfastError,
    TicketConflict,
    UnknownTicket,
)
from standfast.histories import Histories
from standfast.lists import Lists
from standfast.outcome import Outcome, State
from standfast.rehearsal import RehearsalWorkflow
from standfast.safety.conflicts import on_the_same_rows
from standfast.settings import Settings
from standfast.signing import sign
from standfast.spending import spending, spending_by_day
from standfast.stats import KnownFacts, Stats, TicketFacts, facts, summarized
from standfast.steps import TICKET, WORKFLOW_TASK, Pool, Rehearsed, RehearseRequest, rehearsal_id
from standfast.storage.external import external_storage
from standfast.store.databases import Databases
from standfast.submission import DIGEST, start_options
from standfast.ticket import Ticket
from standfast.timeline import TimelineEntry
from standfast.translation import ANSWER, asked, of_ticket
from standfast.undo import undo_ticket
from standfast.view import TicketView
from standfast.visibility import TicketRow
from standfast.workflow import REFUSED, UNRECORDED, TicketWorkflow, broken_off

_TASK_FAILED = EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
_MERE_NEWS = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND  # came while the worker was at it
_AT_ONCE = 8  # histories fetched together
_REHEARSED = timedelta(seconds=30)  # a rehearsal for somebody who looks
_ON_RECORD = timedelta(seconds=40)  # longer than the workflow tries to put a decision on record
# On one ticket at a time. A workflow takes ten updates; Temporal turns further ones away, and people would have to
# repeat them.
_DECISIONS = 5


class Submitted(Record):
    """What `submit` returns."""

    workflow_id: str
    started: bool
    """False if the same ticket was submitted before."""


class Standfast:
    """A client of one Standfast installation."""

    def __init__(self, temporal: Client, settings: Settings, databases: Databases | None = None) -> None:
        """Without `databases` nothing is put on record of what no workflow records itself, nor read from there."""
        self._temporal = temporal
        self._settings = settings
        self._databases = databases
        self._delivering = WeakValueDictionary[str, asyncio.Semaphore]()
        self._known_facts = KnownFacts()
        self._histories = Histories(temporal, settings, databases)
        self.lists = Lists(temporal, settings)
        """Lists of tickets."""

    @classmethod
    @asynccontextmanager
    async def connect(cls, settings: Settings, databases: Databases | None = None) -> AsyncIterator[Self]:
        """Connect to Temporal as the settings say, and to databases by `databases` if the process has them already.

        Raises:
            ServiceUnavailable: Temporal can't be reached.
        """
        async with AsyncExitStack() as stack:
            if databases is None:
                databases = await stack.enter_async_context(Databases(settings, application="standfast client"))
            storage = await stack.enter_async_context(external_storage(settings, databases))
            recording = databases if settings.control.url else None
            yield cls(await cluster.connect(settings, storage), settings, recording)

    async def submit(self, ticket: Ticket) -> Submitted:
        """Start the ticket's workflow, or find it if the same ticket was submitted before.

        Raises:
            UnknownTarget: the settings don't name the ticket's target.
            TicketConflict: its id is used by a ticket with other content.
            ServiceUnavailable: Temporal can't be reached.
        """
        self._settings.target(ticket.target)
        with self._translated(ticket.workflow_id):
            try:
                await self._temporal.start_workflow(
                    TicketWorkflow.run,
                    Start(ticket),
                    id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                    **start_options(ticket, requester_marks(self._temporal.data_converter, ticket.requester)[0]),
                )
            except WorkflowAlreadyStartedError:
                await self.find(ticket)
                return Submitted(workflow_id=ticket.workflow_id, started=False)
        return Submitted(workflow_id=ticket.workflow_id, started=True)

    async def submit_all(self, tickets: Sequence[Ticket]) -> list[Submitted]:
        """Submit several tickets; none is started if the id of one is used by a ticket with other content.

        Raises:
            UnknownTarget: the settings don't name a ticket's target.
            TicketConflict: an id is used by a ticket with other content.
            ServiceUnavailable: Temporal can't be reached.
        """
        if len(tickets) > 1:  # a single one is told by `submit` itself
            for ticket in tickets:
                with suppress(UnknownTicket):
                    await self.find(ticket)
        return [await self.submit(ticket) for ticket in tickets]

    async def find(self, ticket: Ticket) -> TicketRow:
        """Return what is known about this very ticket, which was submitted before.

        Raises:
            TicketConflict: its id is used by a ticket with other content.
            UnknownTicket: no ticket has its id.
            ServiceUnavailable: Temporal can't be reached.
        """
        with self._translated(ticket.workflow_id):
            known = await self._handle(ticket.workflow_id).describe()
        if await known.memo_value(DIGEST, default=None) != ticket.digest:
            raise TicketConflict(f"{ticket.workflow_id} was submitted before with other content; use another id")
        return listing.row(known)

    async def view(self, workflow_id: str) -> TicketView:
        """Return the whole ticket as its workflow sees it now.

        Raises:
            UnknownTicket: no such ticket.
            ServiceUnavailable: Temporal, or every core worker, is away.
        """
        with self._translated(workflow_id):
            try:
                return await asked(self._handle(workflow_id), TicketWorkflow.view.__name__, TicketView)
            except (WorkflowQueryFailedError, RPCError):
                await self._explain(workflow_id)
                raise

    async def _explain(self, workflow_id: str) -> None:
        """Say why a workflow doesn't answer, if Temporal knows; what it says itself is encrypted.

        Raises:
            UnknownTicket: it is no ticket, but a workflow of another type.
            ServiceUnavailable: its workflow task fails again and again; the message says with what.
        """
        known = (await self._handle(workflow_id).describe()).raw_description
        kind = known.workflow_execution_info.type.name
        if kind != TICKET:
            raise UnknownTicket(f"{workflow_id} is no ticket, but a workflow of type {kind}")
        if known.pending_workflow_task.attempt > 1:
            events = (await self._histories.one(workflow_id)).events
            failed = [e.workflow_task_failed_event_attributes for e in events if e.event_type == _TASK_FAILED]
            if failed and failed[-1].cause != _MERE_NEWS:
                failure = failed[-1].failure
                await reveal([failure], self._temporal.data_converter)
                raise ServiceUnavailable(f"{workflow_id} stands still, its worker fails on it: {failure.message}")

    async def row(self, workflow_id: str) -> TicketRow:
        """Return one ticket as Temporal has it at this moment.

        Raises:
            UnknownTicket: no such ticket.
            ServiceUnavailable: Temporal can't be reached.
        """
        with self._translated(workflow_id):
            return listing.row(await self._handle(workflow_id).describe())

    async def wait(self, workflow_id: str) -> Outcome:
        """Wait until the ticket has ended, and return how; `failed` and `cancelled` are outcomes, too.

        Raises:
            UnknownTicket: no such ticket.
            ServiceUnavailable: Temporal can't be reached.
        """
        with self._translated(workflow_id):
            try:
                return await self._handle(workflow_id).result()
            except WorkflowFailureError as error:
                return broken_off(error.cause)

    async def watch(self, workflow_id: str) -> AsyncGenerator[TicketView]:
        """Yield the view whenever it has changed, until the ticket has ended. Pushed by the server, not polled.

        Raises:
            UnknownTicket: no such ticket.
            ServiceUnavailable: Temporal, or every core worker, is away.
        """
        moved = asyncio.Event()

        async def follow() -> None:
            """Notice each event; a run that was continued as new is followed by the next one."""
            continued = True
            while continued:
                events = self._handle(workflow_id).fetch_history_events(wait_new_event=True)
                async for event in events:
                    moved.set()
                    continued = event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW

        following = asyncio.create_task(follow())
        following.add_done_callback(lambda _: moved.set())
        last: TicketView | None = None
        try:
            while last is None or not last.state.is_end:
                ended = following.done()
                view = await self.view(workflow_id)
                if view != last:
                    last = view
                    yield view
                if ended:
                    with self._translated(workflow_id):
                        await following
                    break
                await moved.wait()
                moved.clear()
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError, RPCError):
                await following

    async def history(self, workflow_id: str) -> list[TimelineEntry]:
        """Return the ticket's timeline, its planner workflows' included, oldest first.

        Raises:
            UnknownTicket: no such ticket.
            ServiceUnavailable: Temporal can't be reached.
        """
        return await self._histories.timeline(workflow_id)

    async def progress(self, workflow_id: str) -> str:
        """Return what differs once the ticket's timeline has more to tell; costs much less than to read it.

        Raises:
            UnknownTicket: no such ticket.
            ServiceUnavailable: Temporal can't be reached.
        """
        return await self._histories.progress(workflow_id)

    async def drafts(self, workflow_id: str) -> list[Draft]:
        """Return the plans that the agent made for a ticket, oldest first, as far as Temporal still knows them.

        Raises:
            UnknownTicket: no such ticket.
            ServiceUnavailable: Temporal can't be reached.
        """
        return await self._histories.drafts(workflow_id)

    async def stats(self, targets: Sequence[str] = (), since: datetime | None = None, limit: int = 1000) -> Stats:
        """Return figures over the newest tickets, those that started after `since`, of `targets` or of all.

        Each ticket's histories are read, but of one that has ended once only.

        Raises:
            UnknownTarget: the settings don't name one of the targets.
            NotPermitted: this process has no URL of the control database, which knows what model calls cost.
            ServiceUnavailable: Temporal or the control database can't be reached.
        """
        if self._databases is None:
            raise NotPermitted("this process has no URL of the control database; set control.url")
        as_of = datetime.now(UTC)
        rows = await self.lists.tickets(targets=targets, since=since, limit=limit)
        slots = asyncio.Semaphore(_AT_ONCE)

        async def read(row: TicketRow) -> TicketFacts | None:
            known = self._known_facts.find(row)
            if known is None:
                async with slots:
                    with suppress(UnknownTicket):  # it ended long ago, and Temporal has removed it meanwhile
                        known = facts(row, await self._histories.of_ticket(row.workflow_id))
                        self._known_facts.keep(known)
            return known

        tickets = [ticket for ticket in await asyncio.gather(*map(read, rows)) if ticket is not None]
        planners = [planner for ticket in tickets for planner in ticket.planner_workflows]
        models = await spending(self._databases, planners)
        days = await spending_by_day(self._databases, planners)
        return summarized(tickets, models, days, as_of=as_of, limit=limit)

    async def decide(
        self,
        workflow_id: str,
        *,
        verdict: DecisionVerdict,
        by: str,
        mode: Mode,
        plan_digest: str,
        fingerprint: str,
        judgement: str = "",
        comment: str = "",
    ) -> DecisionRecord:
        """Sign and deliver a decision; the caller vouches for `by`, and for what was seen.

        Raises:
            DecisionRefused: it changed nothing; `reason` says why.
            DecisionUnrecorded: it could not be put on record, so it does not count; take it again.
            InvalidInput: a field is too long, or holds what no database can.
            NotPermitted: this process has no signing key.
            UnknownTicket: no such ticket.
            ServiceUnavailable: Temporal, or every core worker, is away.
        """
        decision = self.signed(
            workflow_id,
            verdict=verdict,
            by=by,
            mode=mode,
            plan_digest=plan_digest,
            fingerprint=fingerprint,
            judgement=judgement,
            comment=comment,
        )
        return await self.deliver(workflow_id, decision)

    def signed(
        self,
        workflow_id: str,
        *,
        verdict: DecisionVerdict,
        by: str,
        mode: Mode,
        plan_digest: str,
        fingerprint: str,
        judgement: str = "",
        comment: str = "",
    ) -> Decision:
        """Return a signed decision; the caller vouches for `by`.

        Raises:
            InvalidInput: a field is too long, or holds what no database can.
            NotPermitted: this process has no signing key.
        """
        review = self._settings.review
        if review.signing_key is None:
            raise NotPermitted("this process has no key to sign decisions with; set review.signing_key")
        said = {
            "verdict": verdict,
            "plan_digest": plan_digest,
            "fingerprint": fingerprint,
            "judgement": judgement,
            "by": by,
            "comment": comment,
        }
        return sign(
            validate(Decision, said, source="the decision", line=None, text=""),
            workflow_id=workflow_id,
            mode=mode,
            key_id=review.signing_key_id,
            private_key=review.signing_key.get_secret_value(),
        )

    async def deliver(self, workflow_id: str, decision: Decision) -> DecisionRecord:
        """Deliver a signed decision. One whose answer was lost may be delivered again: it counts once.

        What the workflow can't put on record any more, since it has ended or was asked too often, is recorded here.

        Raises: as `decide` does.
        """
        async with self._delivering.setdefault(workflow_id, asyncio.Semaphore(_DECISIONS)):
            try:
                with self._translated(workflow_id, within=_ON_RECORD):
                    return await self._handle(workflow_id).execute_update(
                        TicketWorkflow.decide,
                        decision,
                        id=decision.proof.id if decision.proof else None,
                        rpc_timeout=_ON_RECORD,
                    )
            except DecisionUnheard as refused:
                await self._record_unheard(workflow_id, decision, refused)
                raise

    async def _record_unheard(self, workflow_id: str, decision: Decision, refused: DecisionUnheard) -> None:
        at = datetime.now(UTC)
        record = DecisionRecord.of(decision, at=at, refused=Refusal(refused.reason), message=str(refused))
        key = f"unheard/{workflow_id}/{record.id or secrets.token_hex(16)}"
        await self._record(audit.Kind.UNHEARD, workflow_id, key, decision.by, record.content(decision), at=at)

    async def _record(
        self, kind: audit.Kind, workflow_id: str, key: str, actor: str, content: Mapping[str, Any], *, at: datetime
    ) -> None:
        if self._databases is None:
            return
        async with self._databases.control(autocommit=True) as connection:
            await audit.append(
                connection, key=key, at=at, kind=kind, workflow_id=workflow_id, actor=actor, content=content
            )

    async def cancel(self, workflow_id: str, *, by: str | None = None) -> None:
        """Ask the ticket to end; what is being executed is finished or rolled back as a whole first.

        Who asks is put on record before, unless `by` is None: a batch has its own record.

        Raises:
            DecisionRefused: it has ended already.
            UnknownTicket: no such ticket.
            ServiceUnavailable: Temporal or the control database can't be reached.
        """
        with self._translated(workflow_id):
            status = (await self._handle(workflow_id).describe()).status
            if status is not WorkflowExecutionStatus.RUNNING:
                raise DecisionRefused(f"{workflow_id} has ended already", reason=Refusal.NOT_WAITING)
            if by is not None:
                key = f"cancel/{workflow_id}/{secrets.token_hex(16)}"
                await self._record(audit.Kind.CANCEL, workflow_id, key, by, {}, at=datetime.now(UTC))
            await self._handle(workflow_id).cancel()

    async def rehearse(self, workflow_id: str, *, by: str) -> None:
        """Have a plan that waits validated anew, on the rows of now; a ticket that doesn't wait ignores it.

        Who asked for it is put on record before.

        Raises:
            DecisionRefused: it has ended already.
            UnknownTicket: no such ticket.
            ServiceUnavailable: Temporal or the control database can't be reached.
        """
        with self._translated(workflow_id):
            key = f"rehearse/{workflow_id}/{secrets.token_hex(16)}"
            await self._record(audit.Kind.REHEARSE, workflow_id, key, by, {}, at=datetime.now(UTC))
            await self._handle(workflow_id).signal(TicketWorkflow.rehearse)

    async def rehearsed(self, view: TicketView) -> Rehearsed | None:
        """Return what the present plan would do now; the ticket doesn't notice. None if that can't be found out.

        One rehearsal is on its way at a time: who asks meanwhile gets its answer, which may be about an earlier plan.

        Raises:
            ServiceUnavailable: Temporal can't be reached.
        """
        if view.plan is None:
            return None
        ticket = view.ticket.model_copy(update={"body": "", "subject": {}, "metadata": {}})  # only rules on people ask
        with self._translated(view.workflow_id):
            try:
                return await self._temporal.execute_workflow(
                    RehearsalWorkflow.run,
                    RehearseRequest(ticket=ticket, plan=view.plan),
                    id=rehearsal_id(view.workflow_id),
                    task_queue=Pool.CORE,
                    execution_timeout=_REHEARSED,
                    task_timeout=WORKFLOW_TASK,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    static_summary="would the plan still do the same?",
                )
            except WorkflowFailureError:
                return None

    async def conflicts(self, view: TicketView) -> tuple[str, ...]:
        """Return the workflow ids of other waiting tickets whose plans change some of the same rows: some, if many do.

        None are known to a process without a URL of the control database.

        Raises:
            ServiceUnavailable: Temporal or the control database can't be reached.
        """
        if view.state is not State.WAITING or self._databases is None:
            return ()
        async with self._databases.control() as connection:
            noted = (await on_the_same_rows(connection, [view.workflow_id])).get(view.workflow_id, ())
        known = await self.lists.rows(noted) if noted else {}
        return tuple(other for other in noted if other in known and known[other].state is State.WAITING)

    async def undo(self, workflow_id: str, *, by: str) -> Submitted:
        """Start the undo of an executed ticket, or find it: a ticket of its own, which `by` asks for.

        An undo that was rejected, or that ended in another way without a change, can be asked for once more.

        Raises:
            InvalidInput: its undo can't be named.
            DecisionRefused: it has changed nothing, or was taken back already.
            UnknownTicket: no such ticket.
            ServiceUnavailable: Temporal, or every core worker, is away.
        """
        view = await self.view(workflow_id)
        if view.outcome is None or view.outcome.execution is None:
            message = f"{workflow_id} is {view.state} and has changed nothing that could be taken back"
            raise DecisionRefused(message, reason=Refusal.NOTHING_TO_UNDO)
        earlier, ticket = await self._undos(view, by)
        if earlier and not earlier[-1].state.is_end:
            return Submitted(workflow_id=earlier[-1].workflow_id, started=False)
        if earlier and earlier[-1].state is State.DONE:
            message = f"{workflow_id} was taken back by {earlier[-1].workflow_id}"
            raise DecisionRefused(message, reason=Refusal.UNDONE)
        try:
            return await self.submit(ticket)
        except TicketConflict:  # somebody else has asked for it at the same moment
            return Submitted(workflow_id=ticket.workflow_id, started=False)

    async def undos(self, view: TicketView) -> list[TicketView]:
        """Return the tickets that took this one back or were to do so, oldest first.

        Raises:
            InvalidInput: its undo can't be named.
            ServiceUnavailable: Temporal, or every core worker, is away.
        """
        if view.outcome is None or view.outcome.execution is None:
            return []
        return (await self._undos(view, view.ticket.requester))[0]

    async def _undos(self, view: TicketView, by: str) -> tuple[list[TicketView], Ticket]:
        """Return a ticket's undos, oldest first, and the one that would be next."""
        found: list[TicketView] = []
        for number in count(1):
            ticket = undo_ticket(view, number, by)
            try:
                known = await self.view(ticket.workflow_id)
            except UnknownTicket:
                break
            if known.ticket.undo_of == view.workflow_id:  # else its id is used by something else
                found.append(known)
        return found, ticket

    def ui_link(self, workflow_id: str) -> str | None:
        """Return the address of the workflow in Temporal's own UI, None if the settings don't name one."""
        return self._histories.link(workflow_id)

    def _handle(self, workflow_id: str) -> WorkflowHandle[TicketWorkflow, Outcome]:
        return self._temporal.get_workflow_handle_for(TicketWorkflow.run, workflow_id)

    @contextmanager
    def _translated(self, workflow_id: str, *, within: timedelta = ANSWER) -> Iterator[None]:
        """Turn Temporal's errors into ours."""
        with of_ticket(workflow_id, within=within):
            try:
                yield
            except WorkflowUpdateFailedError as error:
                raise _refusal(error) from error


def _refusal(error: WorkflowUpdateFailedError) -> StandfastError:
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.type == REFUSED:
        reason = str(cause.details[0])
        refused = DecisionUnheard if reason == Refusal.TOO_MANY_REFUSED else DecisionRefused
        return refused(cause.message, reason=reason)
    if isinstance(cause, ApplicationError) and cause.type == UNRECORDED:
        return DecisionUnrecorded(cause.message)
    return DecisionUnheard(f"the decision was not taken: {cause}", reason=Refusal.NOT_WAITING)
