"""Temporal's errors in our words, for everybody who asks it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic
from typing import Any, TypeVar

from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.client import (
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.service import RPCError, RPCStatusCode

from standfast.decision import Refusal
from standfast.errors import DecisionUnheard, InvalidInput, ServiceUnavailable, StandfastError, UnknownTicket

ANSWER = timedelta(seconds=10)
"""How long a worker may take to answer for a workflow."""
AHEAD = "a workflow task is under way; ask again in a moment"
"""What a query is told that may have run its workflow ahead of Temporal, see `standfast.runner`."""
ENDED = ":ended"
"""Follows the name of a query to a workflow that has ended, and gets no task any more."""
_MOMENT = 0.25  # seconds

Answer = TypeVar("Answer")


async def asked(handle: WorkflowHandle[Any, Any], query: str, answer: type[Answer]) -> Answer:
    """Return a workflow's answer to a query, which is sent again while a workflow task is under way.

    Raises:
        WorkflowQueryFailedError: the workflow can't answer.
        RPCError: Temporal, or every core worker, is away.
    """
    patience = monotonic() + ANSWER.total_seconds()
    while True:
        try:
            answered: Answer = await handle.query(query, result_type=answer, rpc_timeout=ANSWER)
        except WorkflowQueryFailedError as error:
            if AHEAD not in str(error) or monotonic() > patience:
                raise
        else:
            return answered
        if (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
            await asyncio.sleep(_MOMENT)
        else:
            query = query.removesuffix(ENDED) + ENDED


@contextmanager
def of_temporal() -> Iterator[None]:
    """Turn Temporal's errors about many workflows, or about none, into ours.

    Raises:
        InvalidInput: there is no such namespace, or Temporal refused what was asked.
        ServiceUnavailable: Temporal is away.
    """
    try:
        yield
    except RPCError as error:
        raise _said(error) from error


@contextmanager
def translated(
    what: str, *, unknown: StandfastError, ended: StandfastError, within: timedelta = ANSWER
) -> Iterator[None]:
    """Turn Temporal's errors about a workflow into ours; `what` is how people call it, asked for `within` this time.

    Raises:
        StandfastError: `unknown` if there is no such workflow, `ended` if it has ended already.
        InvalidInput: there is no such namespace, or Temporal refused what was asked.
        ServiceUnavailable: Temporal, or every core worker, is away.
    """
    try:
        yield
    except (WorkflowQueryFailedError, WorkflowQueryRejectedError) as error:
        raise ServiceUnavailable(f"{what} can't be shown: {error}") from error
    except WorkflowUpdateRPCTimeoutOrCancelledError as error:
        if isinstance(error.__cause__, asyncio.CancelledError):
            raise error.__cause__ from None  # the caller was cancelled, which Temporal's client hides
        raise _nobody(what, within) from error
    except RPCError as error:
        match error.status:
            case RPCStatusCode.NOT_FOUND if _missing_namespace(error) is None:
                raise (ended if "already completed" in error.message else unknown) from error
            case RPCStatusCode.CANCELLED | RPCStatusCode.DEADLINE_EXCEEDED:
                raise _nobody(what, within) from error
            case RPCStatusCode.INVALID_ARGUMENT:
                raise InvalidInput(f"Temporal refused the request for {what}: {error.message}") from error
            case RPCStatusCode.RESOURCE_EXHAUSTED:
                raise ServiceUnavailable(
                    f"too much is asked of {what} at this moment ({error.message}); try again"
                ) from error
        raise _said(error) from error


@contextmanager
def of_ticket(workflow_id: str, *, within: timedelta = ANSWER) -> Iterator[None]:
    """Turn Temporal's errors about a ticket's workflow, or about one of its planners, into ours; raises the same."""
    unknown = UnknownTicket(f"unknown ticket {workflow_id}; `standfast list` shows all")
    ended = DecisionUnheard(f"{workflow_id} has ended already", reason=Refusal.NOT_WAITING)
    with translated(workflow_id, unknown=unknown, ended=ended, within=within):
        yield


def _said(error: RPCError) -> StandfastError:
    namespace = _missing_namespace(error)
    if namespace is not None:
        return InvalidInput(f"Temporal has no namespace {namespace!r}; create it, or set temporal.namespace")
    if error.status is RPCStatusCode.INVALID_ARGUMENT:
        return InvalidInput(f"Temporal refused the request: {error.message}")
    return ServiceUnavailable(f"Temporal: {error.message}; try again")


def _missing_namespace(error: RPCError) -> str | None:
    failure = NamespaceNotFoundFailure()
    return next((failure.namespace for detail in error.grpc_status.details if detail.Unpack(failure)), None)


def _nobody(what: str, within: timedelta) -> ServiceUnavailable:
    seconds = int(within.total_seconds())
    return ServiceUnavailable(
        f"no core worker answered for {what} within {seconds} s; is `standfast up` or a core worker running?"
    )
