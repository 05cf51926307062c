"""A client's part of batches: start one, or find it, follow it, steer it, and read what became of its tickets."""

from asyncio import sleep
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import Self

from pydantic import ValidationError
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ActivityError, FailureError, WorkflowAlreadyStartedError

from standfast import cluster, steps
from standfast.batch import MAX_TICKETS, Batch, BatchState, Pace, Progress, Result, content_digest, workflow_id
from standfast.batching.register import Register
from standfast.batching.workflow import BatchWorkflow
from standfast.domain import Record
from standfast.errors import BatchEnded, InvalidInput, ServiceUnavailable, UnknownBatch, UnknownTarget
from standfast.settings import Settings
from standfast.storage.external import external_storage
from standfast.store.databases import Databases
from standfast.ticket import Ticket
from standfast.translation import ANSWER, asked, translated

_ID_DIGITS = 16  # of the content's digest
_PAUSE = steps.BATCH_GATHER.total_seconds()  # between two questions how far it is: numbers change no sooner...
_LONGEST_PAUSE = 10.0  # ...and seldom if they did not change of late; twice as long each time, up to this
_PATIENCE = 60.0  # seconds without an answer: workers and servers come back
_STOPPED = frozenset(
    {
        WorkflowExecutionStatus.FAILED,
        WorkflowExecutionStatus.TERMINATED,
        WorkflowExecutionStatus.TIMED_OUT,
        WorkflowExecutionStatus.CANCELED,
    }
)


class Started(Record):
    """What `start` returns."""

    batch_id: str
    tickets: int
    started: bool
    """False if the same batch was started before."""


class Batches:
    """The batches of one Standfast installation."""

    def __init__(self, temporal: Client, settings: Settings, databases: Databases) -> None:
        self._temporal = temporal
        self._settings = settings
        self._databases = databases

    @classmethod
    @asynccontextmanager
    async def connect(cls, settings: Settings) -> AsyncIterator[Self]:
        """Connect to Temporal; the control database is connected to when it is needed.

        Raises:
            ServiceUnavailable: Temporal can't be reached.
        """
        async with (
            Databases(settings, application="standfast batch") as databases,
            external_storage(settings, databases) as storage,
        ):
            yield cls(await cluster.connect(settings, storage), settings, databases)

    async def start(
        self,
        tickets: Sequence[tuple[int, Ticket]],
        *,
        source: str = "the batch",
        batch_id: str | None = None,
        pace: Pace | None = None,
    ) -> Started:
        """Start a batch of these tickets, each with its line in `source`, or find it if it was started before.

        One whose workflow was ended from outside, or failed, goes on. Without an id it gets one from its content.

        Raises:
            BatchConflict: another batch has its id.
            InvalidInput: the id can't be one, there are no tickets or too many, or one is too large.
            UnknownTarget: the settings don't name a ticket's target.
            NotPermitted: this process has no URL of the control database.
            ServiceUnavailable: Temporal or the control database can't be reached.
        """
        if len(tickets) > MAX_TICKETS:
            raise InvalidInput(
                f"{source}: {len(tickets)} tickets are too many; split them, {MAX_TICKETS} a batch at most"
            )
        for line, ticket in tickets:
            self._check_target(ticket, f"{source}, line {line}")
        digest = content_digest([ticket for _, ticket in tickets])
        batch = _batch(batch_id or digest[:_ID_DIGITS], len(tickets), pace or Pace())
        async with self._register(batch.id) as register:
            await register.create(digest, tickets, source=source)
        with self._translated(batch.id):
            try:
                await self._temporal.start_workflow(
                    BatchWorkflow.run,
                    batch,
                    id=batch.workflow_id,
                    task_queue=steps.Pool.CORE,
                    task_timeout=steps.BATCH_TASK,
                    id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                    static_summary=f"batch of {batch.tickets} tickets",
                )
            except WorkflowAlreadyStartedError:
                return Started(batch_id=batch.id, tickets=batch.tickets, started=False)
        return Started(batch_id=batch.id, tickets=batch.tickets, started=True)

    def _check_target(self, ticket: Ticket, place: str) -> None:
        try:
            self._settings.target(ticket.target)
        except UnknownTarget as error:
            raise UnknownTarget(f"{place}: {error}") from None

    async def progress(self, batch_id: str) -> Progress:
        """Return how far the batch is, also after its end.

        Raises:
            UnknownBatch: no such batch.
            ServiceUnavailable: Temporal, or every core worker, is away.
        """
        handle = self._handle(batch_id)
        with self._translated(batch_id):
            status = (await handle.describe()).status
            progress = await asked(handle, BatchWorkflow.progress.__name__, Progress)
            if status not in _STOPPED:
                return progress
            reason = await self._reason(batch_id)
        return progress.model_copy(update={"state": BatchState.STOPPED, "reason": reason})

    async def _reason(self, batch_id: str) -> str:
        """Return why the batch's workflow stopped."""
        try:
            await self._handle(batch_id).result()
        except WorkflowFailureError as error:
            cause = error.cause.cause if isinstance(error.cause, ActivityError) else error.cause
            return cause.message if isinstance(cause, FailureError) else str(cause)
        return ""

    async def follow(self, batch_id: str) -> AsyncIterator[Progress]:
        """Yield how far the batch is, until it has ended. Sits out a minute in which nobody answers.

        Raises:
            UnknownBatch: no such batch.
            ServiceUnavailable: Temporal, or every core worker, stays away.
        """
        answered, pause, shown = monotonic(), _PAUSE, None
        while True:
            try:
                progress = await self.progress(batch_id)
            except ServiceUnavailable:
                if monotonic() - answered > _PATIENCE:
                    raise
            else:
                answered = monotonic()
                yield progress
                if progress.state.is_end:
                    return
                pause = min(2 * pause, _LONGEST_PAUSE) if progress == shown else _PAUSE
                shown = progress
            await sleep(pause)

    async def pause(self, batch_id: str) -> Progress:
        """Start no further tickets until `resume`; those under way go on.

        Raises:
            UnknownBatch: no such batch.
            BatchEnded: it has ended.
            ServiceUnavailable: Temporal, or every core worker, is away.
        """
        with self._translated(batch_id):
            return await self._handle(batch_id).execute_update(BatchWorkflow.pause, rpc_timeout=ANSWER)

    async def resume(self, batch_id: str) -> Progress:
        """Go on after a pause.

        Raises: as `pause` does.
        """
        with self._translated(batch_id):
            return await self._handle(batch_id).execute_update(BatchWorkflow.resume, rpc_timeout=ANSWER)

    async def cancel(self, batch_id: str, *, tickets: bool = False) -> Progress:
        """Start no further tickets, for good; with `tickets`, cancel those that the batch has started, too.

        Raises: as `pause` does.
        """
        with self._translated(batch_id):
            return await self._handle(batch_id).execute_update(BatchWorkflow.cancel, tickets, rpc_timeout=ANSWER)

    async def results(self, batch_id: str) -> AsyncIterator[Result]:
        """Yield what is known about each ticket, in the order of the file.

        Raises:
            UnknownBatch: no such batch.
            NotPermitted: this process has no URL of the control database.
            ServiceUnavailable: the control database can't be reached, or was not migrated.
        """
        async with self._register(batch_id) as register:
            await register.digest()  # raises if there is none
        after = -1
        while results := await self._results(batch_id, after):
            for result in results:
                yield result
            after = results[-1].position

    async def _results(self, batch_id: str, after: int) -> list[Result]:
        """Return some results, with nothing held meanwhile that the reader of their output could hold up."""
        async with self._register(batch_id) as register:
            return await register.results(after)

    @asynccontextmanager
    async def _register(self, batch_id: str) -> AsyncIterator[Register]:
        async with self._databases.control() as connection:
            yield Register(batch_id, connection, self._temporal)

    def _handle(self, batch_id: str) -> WorkflowHandle[BatchWorkflow, Progress]:
        return self._temporal.get_workflow_handle_for(BatchWorkflow.run, workflow_id(batch_id))

    @contextmanager
    def _translated(self, batch_id: str) -> Iterator[None]:
        """Turn Temporal's errors into ours."""
        unknown = UnknownBatch(f"unknown batch {batch_id}")
        ended = BatchEnded(f"batch {batch_id} has ended already")
        with translated(f"batch {batch_id}", unknown=unknown, ended=ended):
            yield


def _batch(batch_id: str, tickets: int, pace: Pace) -> Batch:
    try:
        return Batch(id=batch_id, tickets=tickets, pace=pace)
    except ValidationError as error:
        problem = error.errors()[0]
        raise InvalidInput(f"batch {batch_id!r}: {problem['loc'][0]}: {problem['msg']}") from error
