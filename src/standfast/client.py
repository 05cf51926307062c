"""The one way in: submit, look, decide, cancel. Page, command line and API stand on this class."""

import asyncio
import base64
import binascii
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, Self
from urllib.parse import quote
from weakref import WeakValueDictionary

from pydantic import ValidationError
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import WorkflowExecutionStartedEventAttributes
from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowHistory,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError

from standfast import audit, cluster, visibility
from standfast.carried import Start
from standfast.codec.reading import failures, of_workflow, reveal
from standfast.decision import Decision, DecisionRecord, DecisionVerdict, Mode, Refusal
from standfast.documents import read_json_documents, validate
from standfast.domain import Record
from standfast.errors import (
    DecisionRefused,
    DecisionUnheard,
    DecisionUnrecorded,
    InvalidInput,
    NotPermitted,
    ServiceUnavailable,
    StandfastError,
    TicketConflict,
    UnknownTicket,
)
from standfast.outcome import Outcome, State
from standfast.report import Verdict
from standfast.safety.conflicts import on_the_same_rows
from standfast.settings import Settings
from standfast.signing import sign
from standfast.spending import spending
from standfast.stats import Stats, TicketFacts, facts, planner_workflows, summarized
from standfast.storage.external import external_storage
from standfast.store.connections import Databases
from standfast.submission import DIGEST, start_options
from standfast.ticket import Ticket
from standfast.timeline import TimelineEntry, timeline
from standfast.translation import ANSWER, translated
from standfast.view import TicketView
from standfast.visibility import TicketRow
from standfast.workflow import REFUSED, UNRECORDED, TicketWorkflow, broken_off

_TASK_FAILED = EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
_MERE_NEWS = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND  # came while the worker was at it
_TICKETS = 'WorkflowType = "Ticket" AND ExecutionStatus != "ContinuedAsNew"'
_AT_ONCE = 8  # histories fetched together
_ON_RECORD = timedelta(seconds=40)  # longer than the workflow tries to put a decision on record
_CHECK_BYTES = 12  # before the token of a page: they tell whether it is one
# On one ticket at a time. A workflow takes ten updates; Temporal turns further ones away, and people would have to
# repeat them.
_DECISIONS = 5


class Submitted(Record):
    """What `submit` returns."""

    workflow_id: str
    started: bool
    """False if the same ticket was submitted before."""


class Listed(Record):
    """A page of a list of tickets."""

    tickets: tuple[TicketRow, ...]
    next: str | None
    """What the next page begins after; None: there is none."""


class Standfast:
    """A client of one Standfast installation."""

    def __init__(self, temporal: Client, settings: Settings, databases: Databases | None = None) -> None:
        """Without `databases` nothing is put on record of what no workflow records itself."""
        self._temporal = temporal
        self._settings = settings
        self._databases = databases
        self._delivering = WeakValueDictionary[str, asyncio.Semaphore]()

    @classmethod
    @asynccontextmanager
    async def connect(cls, settings: Settings) -> AsyncIterator[Self]:
        """Connect to Temporal as the settings say.

        Raises:
            ServiceUnavailable: Temporal can't be reached.
        """
        async with (
            Databases(settings, application="standfast client") as databases,
            external_storage(settings, databases) as storage,
        ):
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
                    **start_options(ticket),
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
        return _row(known)

    async def view(self, workflow_id: str) -> TicketView:
        """Return the whole ticket as its workflow sees it now.

        Raises:
            UnknownTicket: no such ticket.
            ServiceUnavailable: Temporal, or every core worker, is away.
        """
        with self._translated(workflow_id):
            try:
                return await self._handle(workflow_id).query(TicketWorkflow.view, rpc_timeout=ANSWER)
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
        if kind != "Ticket":
            raise UnknownTicket(f"{workflow_id} is no ticket, but a workflow of type {kind}")
        if known.pending_workflow_task.attempt > 1:
            events = (await self._history(workflow_id)).events
            failed = [e.workflow_task_failed_event_attributes for e in events if e.event_type == _TASK_FAILED]
            if failed and failed[-1].cause != _MERE_NEWS:
                failure = failed[-1].failure
                await reveal([failure], self._temporal.data_converter)
                raise ServiceUnavailable(f"{workflow_id} stands still, its worker fails on it: {failure.message}")

    async def tickets(
        self,
        states: Sequence[State] = (),
        targets: Sequence[str] = (),
        limit: int = 200,
        since: datetime | None = None,
    ) -> list[TicketRow]:
        """Return tickets, newest first, from Temporal's visibility store, which lags a little behind.

        With `since`, only those that were submitted later, or whose history began anew later, as long ones do.

        Raises:
            UnknownTarget: the settings don't name one of the targets.
            ServiceUnavailable: Temporal can't be reached.
        """
        query = self._query(states, targets, since)
        with self._translated("list"):
            rows = [_row(found) async for found in self._temporal.list_workflows(query, limit=limit)]
        return sorted(rows, key=lambda row: row.started_at, reverse=True)

    async def page(
        self, states: Sequence[State] = (), targets: Sequence[str] = (), *, limit: int, after: str | None = None
    ) -> Listed:
        """Return the page of tickets `after` the one of which that is the `next`, with at most `limit` of them.

        Open tickets come first, newest first, then ended ones, latest end first, as Temporal's visibility store has
        them; it lags a little behind.

        Raises:
            UnknownTarget: the settings don't name one of the targets.
            InvalidInput: `after` is the `next` of no page.
            ServiceUnavailable: Temporal can't be reached.
        """
        found = self._temporal.list_workflows(
            self._query(states, targets), page_size=limit, next_page_token=_token(after) if after else None
        )
        with self._translated("list"):
            await found.fetch_next_page()
        more = found.next_page_token
        return Listed(tickets=tuple(map(_row, found.current_page or ())), next=_after(more) if more else None)

    def _query(self, states: Sequence[State], targets: Sequence[str], since: datetime | None = None) -> str:
        for target in targets:
            self._settings.target(target)
        query = _TICKETS
        if targets:
            query += f" AND {_one_of(visibility.TARGET.name, targets)}"
        if states:
            query += f" AND ({' OR '.join(_in_states(states))})"
        if since:
            query += f' AND StartTime > "{since.astimezone(UTC).isoformat()}"'
        return query

    async def rows(self, workflow_ids: Sequence[str]) -> dict[str, TicketRow]:
        """Return tickets by their workflow ids, as Temporal's visibility store has them; it may not have all.

        Raises:
            ServiceUnavailable: Temporal can't be reached.
        """
        query = f"{_TICKETS} AND {_one_of('WorkflowId', workflow_ids)}"
        with self._translated("list"):
            return {found.id: _row(found) async for found in self._temporal.list_workflows(query)}

    async def row(self, workflow_id: str) -> TicketRow:
        """Return one ticket as Temporal has it at this moment.

        Raises:
            UnknownTicket: no such ticket.
            ServiceUnavailable: Temporal can't be reached.
        """
        with self._translated(workflow_id):
            return _row(await self._handle(workflow_id).describe())

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

    async def watch(self, workflow_id: str) -> AsyncIterator[TicketView]:
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
        entries: list[TimelineEntry] = []
        for run in await self._histories(workflow_id):
            with self._translated(run.workflow_id):
                described = await self._handle(run.workflow_id, run.run_id).describe()
            failing = described.raw_description.pending_activities
            converter = of_workflow(self._temporal.data_converter, self._temporal.namespace, run.workflow_id)
            await reveal(chain(failures(run.events), (activity.last_failure for activity in failing)), converter)
            entries += await timeline(run.workflow_id, run.events, converter, failing)
        return sorted(entries, key=lambda entry: entry.at)

    async def _histories(self, workflow_id: str) -> list[WorkflowHistory]:
        """Return the histories of a ticket's workflow, one a run, oldest first, and of its planner workflows."""
        runs = [await self._history(workflow_id)]
        # What ended long ago, Temporal has removed: runs that were continued, and planners.
        with suppress(UnknownTicket):
            while earlier := _started(runs[0]).continued_execution_run_id:
                runs.insert(0, await self._history(workflow_id, earlier))
        planners: list[WorkflowHistory] = []
        for planner in (name for run in runs for name in planner_workflows(run.events)):
            with suppress(UnknownTicket):
                planners.append(await self._history(planner))
        return runs + planners

    async def _history(self, workflow_id: str, run_id: str | None = None) -> WorkflowHistory:
        """Return the history of a run as Temporal has it, by default of the newest one."""
        with self._translated(workflow_id):
            return await self._handle(workflow_id, run_id).fetch_history()

    async def stats(self, targets: Sequence[str] = (), since: datetime | None = None, limit: int = 1000) -> Stats:
        """Return figures over the newest tickets, those that started after `since`, of `targets` or of all.

        Raises:
            UnknownTarget: the settings don't name one of the targets.
            NotPermitted: this process has no URL of the control database, which knows what model calls cost.
            ServiceUnavailable: Temporal or the control database can't be reached.
        """
        rows = await self.tickets(targets=targets, since=since, limit=limit)
        slots = asyncio.Semaphore(_AT_ONCE)

        async def read(row: TicketRow) -> TicketFacts | None:
            async with slots:
                with suppress(UnknownTicket):  # it ended long ago, and Temporal has removed it meanwhile
                    return facts(row, await self._histories(row.workflow_id))
            return None

        tickets = [ticket for ticket in await asyncio.gather(*map(read, rows)) if ticket is not None]
        async with Databases(self._settings, application="standfast stats") as databases:
            models = await spending(databases, [planner for ticket in tickets for planner in ticket.planner_workflows])
        return summarized(tickets, models)

    async def decide(
        self,
        workflow_id: str,
        *,
        verdict: DecisionVerdict,
        by: str,
        mode: Mode,
        plan_digest: str,
        fingerprint: str,
        comment: str = "",
    ) -> DecisionRecord:
        """Sign and deliver a decision; the caller vouches for `by`.

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
            "by": by,
            "comment": comment,
        }
        return sign(
            validate(Decision, said, source="the decision", line=1, text=""),
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
                with self._translated(workflow_id):
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

    async def conflicts(self, view: TicketView) -> tuple[str, ...]:
        """Return the workflow ids of other waiting tickets whose plans change some of the same rows.

        None are known to a process without a URL of the control database.

        Raises:
            ServiceUnavailable: Temporal or the control database can't be reached.
        """
        if view.state is not State.WAITING or self._settings.control.url is None:
            return ()
        async with (
            Databases(self._settings, application="standfast conflicts") as databases,
            databases.control() as connection,
        ):
            noted = await on_the_same_rows(connection, view.workflow_id)
        if not noted:
            return ()
        waiting = {row.workflow_id for row in await self.tickets([State.WAITING], [view.ticket.target], limit=10_000)}
        return tuple(other for other in noted if other in waiting)

    async def undo(self, workflow_id: str, *, by: str) -> Submitted:
        """Start the undo of an executed ticket, or find it: a ticket of its own, which `by` asks for.

        An undo that was rejected, or that ended in another way without a change, can be asked for once more.

        Raises:
            InvalidInput: the ticket has changed nothing, or its undo can't be named.
            DecisionRefused: it was taken back already.
            UnknownTicket: no such ticket.
            ServiceUnavailable: Temporal, or every core worker, is away.
        """
        view = await self.view(workflow_id)
        if view.outcome is None or view.outcome.execution is None:
            raise InvalidInput(f"{workflow_id} is {view.state} and has changed nothing that could be taken back")
        number = 1
        while True:
            ticket = _undo_ticket(view, number, by)
            try:
                earlier = await self.view(ticket.workflow_id)
            except UnknownTicket:
                return await self.submit(ticket)
            if not earlier.state.is_end:
                return Submitted(workflow_id=ticket.workflow_id, started=False)
            if earlier.state is State.DONE:
                raise DecisionRefused(f"{workflow_id} was taken back by {ticket.workflow_id}", reason=Refusal.UNDONE)
            number += 1

    def ui_link(self, workflow_id: str) -> str | None:
        """Return the address of the workflow in Temporal's own UI, None if the settings don't name one."""
        ui = self._settings.temporal.ui
        if ui is None:
            return None
        return f"{ui.rstrip('/')}/namespaces/{quote(self._temporal.namespace)}/workflows/{quote(workflow_id, safe='')}"

    def _handle(self, workflow_id: str, run_id: str | None = None) -> WorkflowHandle[TicketWorkflow, Outcome]:
        return self._temporal.get_workflow_handle_for(TicketWorkflow.run, workflow_id, run_id=run_id)

    @contextmanager
    def _translated(self, workflow_id: str) -> Iterator[None]:
        """Turn Temporal's errors into ours."""
        unknown = UnknownTicket(f"unknown ticket {workflow_id}; `standfast list` shows all")
        ended = DecisionUnheard(f"{workflow_id} has ended already", reason=Refusal.NOT_WAITING)
        with translated(workflow_id, unknown=unknown, ended=ended):
            try:
                yield
            except WorkflowUpdateFailedError as error:
                raise _refusal(error) from error


def parse_tickets(
    text: str, *, source: str, settings: Settings, on_invalid: Callable[[InvalidInput], None] | None = None
) -> list[Ticket]:
    """Return the tickets in `text`: one JSON object, an array, or JSON lines. All are valid, or none is returned.

    With `on_invalid` the invalid ones go there, and the valid ones are returned.

    Raises:
        InvalidInput: naming source, line, field, value and what was expected.
    """
    return [
        ticket for _, ticket in parse_numbered_tickets(text, source=source, settings=settings, on_invalid=on_invalid)
    ]


def parse_numbered_tickets(
    text: str, *, source: str, settings: Settings, on_invalid: Callable[[InvalidInput], None] | None = None
) -> list[tuple[int, Ticket]]:
    """Return the tickets in `text` as `parse_tickets` does, each with its line.

    Raises:
        InvalidInput: as for `parse_tickets`.
    """
    tickets: dict[str, tuple[int, Ticket]] = {}
    for line, document, value in read_json_documents(text, source=source, on_invalid=on_invalid):
        try:
            ticket = parse_ticket(value, source=source, line=line, text=document, settings=settings)
            if tickets.setdefault(ticket.workflow_id, (line, ticket))[1] != ticket:
                raise TicketConflict(f"{source}, line {line}: {ticket.workflow_id} is in this file with other content")
        except InvalidInput as error:
            if on_invalid is None:
                raise
            on_invalid(error)
    if not tickets:
        raise InvalidInput(f"{source}: holds no {'valid ' if on_invalid else ''}ticket")
    return list(tickets.values())


def parse_ticket(value: object, *, source: str, line: int, text: str, settings: Settings) -> Ticket:
    """Return one ticket; a missing target becomes the default one.

    Raises:
        InvalidInput: naming source, line, field, value and what was expected.
    """
    try:
        if isinstance(value, dict) and "target" not in value:
            value = value | {"target": settings.default_target_name()}
        ticket = validate(Ticket, value, source=source, line=line, text=text)
        settings.target(ticket.target)
    except InvalidInput as error:
        message = str(error)
        raise type(error)(message if message.startswith(source) else f"{source}, line {line}: {message}") from None
    return ticket


def _started(history: WorkflowHistory) -> WorkflowExecutionStartedEventAttributes:
    return history.events[0].workflow_execution_started_event_attributes


def _one_of(attribute: str, values: Iterable[str]) -> str:
    return f"{attribute} IN (" + ", ".join(f'"{value}"' for value in values) + ")"


def _after(token: bytes) -> str:
    """Return Temporal's token of a next page, for others to keep."""
    return base64.urlsafe_b64encode(_check(token) + token).decode()


def _token(after: str) -> bytes:
    """Return Temporal's token, which would call one that it can't read a failure of its own."""
    with suppress(binascii.Error):
        known = base64.b64decode(after, altchars=b"-_", validate=True)
        token = known[_CHECK_BYTES:]
        if _check(token) == known[:_CHECK_BYTES]:
            return token
    raise InvalidInput(f"after {after!r} is the `next` of no page; take it from the page before, unchanged")


def _check(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()[:_CHECK_BYTES]


def _undo_ticket(view: TicketView, number: int, by: str) -> Ticket:
    original = view.ticket
    try:
        return Ticket(
            id=f"{original.id}-undo{number if number > 1 else ''}",
            title=f"Undo {original.title or original.id}"[:500],
            body=f"Take back what {view.workflow_id} has changed. {view.outcome.reason if view.outcome else ''}",
            requester=by,
            target=original.target,
            subject=original.subject,
            undo_of=view.workflow_id,
        )
    except ValidationError as error:
        problem = error.errors()[0]
        raise InvalidInput(f"undo of {view.workflow_id}: {problem['loc'][0]}: {problem['msg']}") from error


def _in_states(states: Sequence[State]) -> Iterator[str]:
    """Yield conditions, one of which has to hold. A ticket ended from outside has failed, whatever its last state."""
    if going := [state for state in states if not state.is_end]:
        yield f'({_one_of(visibility.STATE.name, going)} AND ExecutionStatus = "Running")'
    if ends := [state for state in states if state.is_end]:
        yield _one_of(visibility.STATE.name, ends)
    if State.FAILED in states:
        yield _one_of("ExecutionStatus", ("Terminated", "TimedOut"))


def _row(found: WorkflowExecution) -> TicketRow:
    attributes = found.typed_search_attributes
    state = State(attributes.get(visibility.STATE) or State.GATHERING)
    if found.status is not WorkflowExecutionStatus.RUNNING and not state.is_end:
        state = State.FAILED  # ended from outside: terminated, or timed out
    risk = attributes.get(visibility.RISK)
    return TicketRow(
        workflow_id=found.id,
        state=state,
        target=attributes.get(visibility.TARGET) or "",
        risk=Verdict(risk) if risk else None,
        started_at=found.start_time,
        closed_at=found.close_time,
        batch=found.parent_id,
    )


def _refusal(error: WorkflowUpdateFailedError) -> StandfastError:
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.type == REFUSED:
        reason = str(cause.details[0])
        refused = DecisionUnheard if reason == Refusal.TOO_MANY_REFUSED else DecisionRefused
        return refused(cause.message, reason=reason)
    if isinstance(cause, ApplicationError) and cause.type == UNRECORDED:
        return DecisionUnrecorded(cause.message)
    return DecisionUnheard(f"the decision was not taken: {cause}", reason=Refusal.NOT_WAITING)
