"""The activity `execute`: the approved plan on the approved rows, once."""

from datetime import datetime
from functools import partial

from psycopg.errors import DeadlockDetected, LockNotAvailable, SerializationFailure
from temporalio import activity
from temporalio.exceptions import ApplicationError

from standfast import steps
from standfast.errors import InvalidInput, ServiceUnavailable
from standfast.execution import ledger
from standfast.execution.cancellation import PointOfNoReturn, whole_or_not_at_all
from standfast.outcome import Execution
from standfast.report import Undo, effect_sentence
from standfast.safety.compensation import compensation
from standfast.safety.effect import Effect
from standfast.safety.measurement import Meter, apply, twin
from standfast.safety.protocol import OperationRefused
from standfast.steps import ExecuteRequest, Recalled, RecallRequest, Settled
from standfast.store.connections import Connection
from standfast.store.databases import Databases, Role

_LAST = 2**31 - 1  # an attempt that none overtakes
_TRIES = 3  # transactions that others got in the way of; then the activity is retried with a growing interval
_ALL_ROWS = 1_000_000  # the ledger keeps every image that was taken
_TOO_SLOW = "57014"  # the statement time-out: the server's trouble today, since the rehearsal was quick enough


class Executor:
    """Executes as the writer role."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    @activity.defn(name=steps.EXECUTE.name)
    async def execute(self, request: ExecuteRequest) -> Execution:
        """Execute the plan and return the ledger's row about it; the recorded one if it was executed before.

        A cancellation before the COMMIT leaves nothing behind; one after it changes nothing any more.

        Raises:
            ApplicationError: of type `steps.DRIFTED`: the effect is not the report's, or that is too old; nothing was
                changed. Of type `steps.OVERTAKEN`: a newer attempt is at it.
            OperationRefused: the server refuses an operation; nothing was changed.
            InvalidInput: the plan is not the one that the digest names.
            ServiceUnavailable: the database can't be reached, was lost, or is too busy. If it was lost at the COMMIT,
                only the ledger knows what happened: ask again.
        """
        digest = request.plan.digest(request.target)
        if digest != request.plan_digest:
            raise InvalidInput(f"the plan's digest is {digest}, the report's is {request.plan_digest}; not executed")
        return await whole_or_not_at_all(partial(self._until_known, request))

    @activity.defn(name=steps.SETTLE.name)
    async def settle(self, request: ExecuteRequest) -> Settled:
        """Return what the ledger says about a plan, after whoever is executing it at this moment.

        It is the last word: an attempt that was frozen meanwhile executes nothing any more.

        Raises:
            ServiceUnavailable: the database can't be reached, was lost, or is too busy; ask again.
        """
        await self._overtake(request, _LAST)
        async with self._databases.target(request.target, Role.WRITER) as connection:
            return Settled(execution=await ledger.read(connection, request))

    @activity.defn(name=steps.RECALL.name)
    async def recall(self, request: RecallRequest) -> Recalled:
        """Return how the plan of a ticket can be taken back.

        Raises:
            InvalidInput: it was not executed here, or can't be taken back.
            ServiceUnavailable: the database can't be reached, or was lost; ask again.
        """
        async with self._databases.target(request.target, Role.WRITER) as connection:
            recalled = await ledger.recall(connection, request.undo_of)
        if recalled is None:
            raise InvalidInput(f"{request.undo_of} has executed nothing on {request.target} that could be taken back")
        if recalled.operations is None:
            raise InvalidInput(f"{request.undo_of} can't be taken back: {'; '.join(recalled.remarks)}")
        try:
            recalled.plan(request.undo_of)
        except ValueError as error:
            raise InvalidInput(f"{request.undo_of} can't be taken back: {error}") from error
        return recalled

    async def _overtake(self, request: ExecuteRequest, attempt: int) -> None:
        async with self._databases.target(request.target, Role.WRITER) as connection:
            try:
                await ledger.overtake(connection, request, attempt=attempt)
            except (DeadlockDetected, LockNotAvailable) as error:
                message = f"target {request.target!r}: another attempt is still at work: {error.diag.message_primary}"
                raise ServiceUnavailable(message) from error

    async def _until_known(self, request: ExecuteRequest, point: PointOfNoReturn) -> Execution:
        attempt = activity.info().attempt
        if (request.execution, attempt) > (1, 1):  # before the first one there was nobody to overtake
            await self._overtake(request, attempt)
        for _ in range(_TRIES):
            try:
                return await self._transaction(request, point)
            except _InTheWay as error:
                trouble: Exception = error
            except ServiceUnavailable as error:
                if not point.passed:
                    raise
                trouble = error  # the COMMIT may have come through: the next claim tells
        raise ServiceUnavailable(f"target {request.target!r}: gave up after {_TRIES} transactions: {trouble}")

    async def _transaction(self, request: ExecuteRequest, point: PointOfNoReturn) -> Execution:
        async with (
            self._databases.target(request.target, Role.WRITER) as change,
            self._databases.observer(request.target, Role.WRITER) as observer,
        ):
            try:
                await ledger.begin(change, request)
                async with twin(change, observer):
                    claimed_at = await ledger.claim(change, request, attempt=activity.info().attempt)
                    if claimed_at is None:
                        return await self._recorded(change, request)
                    _refuse_late(request, claimed_at)
                    meter = await Meter.started(change, observer)
                    effect = await apply(request.plan, meter, row_limit=_ALL_ROWS, volatile=frozenset(request.volatile))
                _refuse_other_rows(request, effect)
                await ledger.record(change, request, effect)
                await ledger.record_undo(change, request, effect.changes, await _undo(request, effect, meter))
                execution = await self._recorded(change, request)
                point.passed = True
                await change.commit()
            except (SerializationFailure, DeadlockDetected) as error:
                raise _InTheWay(error.diag.message_primary) from error
            except OperationRefused as error:
                if error.sqlstate == _TOO_SLOW:
                    raise ServiceUnavailable(f"target {request.target!r}: {error}; nothing was changed") from error
                raise
            return execution

    async def _recorded(self, change: Connection, request: ExecuteRequest) -> Execution:
        execution = await ledger.read(change, request)
        if execution is None:
            message = (
                f"a newer attempt executes plan {request.plan_digest:.12} of {request.workflow_id}; nothing was changed"
            )
            raise ApplicationError(message, type=steps.OVERTAKEN, non_retryable=True)
        return execution


async def _undo(request: ExecuteRequest, effect: Effect, meter: Meter) -> Undo:
    """Return what takes back what was changed, in the form that was proved in the rehearsal."""
    if not request.undo_proved:
        return request.undo
    references = await meter.references([change.table for change in effect.changes])
    operations = compensation(effect.changes, left=request.undo.left, order=request.undo.order, references=references)
    return request.undo.model_copy(update={"operations": operations})


class _InTheWay(Exception):  # noqa: N818 - a reason to try again, no error
    """Another transaction's commit, or a deadlock with it, ended this one."""


def _refuse_late(request: ExecuteRequest, now: datetime) -> None:
    """Refuse what waited too long for its execution: constraints may be others by now."""
    if now > request.not_after:
        message = f"the report was good until {request.not_after:%H:%M:%S} UTC, nothing was changed"
        raise ApplicationError(message, type=steps.DRIFTED, non_retryable=True)


def _refuse_other_rows(request: ExecuteRequest, effect: Effect) -> None:
    if effect.fingerprint != request.fingerprint:
        now = effect_sentence((dict(operation.counts) for operation in effect.operations), request.target)
        raise ApplicationError(
            f"the effect is not that of the report any more, nothing was changed; the plan's effect now: {now}",
            type=steps.DRIFTED,
            non_retryable=True,
        )
