"""Temporal's errors in our words, for everybody who asks it about one workflow."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from temporalio.client import (
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.service import RPCError, RPCStatusCode

from standfast.decision import Refusal
from standfast.errors import DecisionUnheard, InvalidInput, ServiceUnavailable, StandfastError, UnknownTicket

ANSWER = timedelta(seconds=10)
"""How long a worker may take to answer for a workflow."""


@contextmanager
def translated(what: str, *, unknown: StandfastError, ended: StandfastError) -> Iterator[None]:
    """Turn Temporal's errors about a workflow into ours; `what` is how people call it.

    Raises:
        StandfastError: `unknown` if there is no such workflow, `ended` if it has ended already.
        InvalidInput: Temporal refused what was asked.
        ServiceUnavailable: Temporal, or every core worker, is away.
    """
    try:
        yield
    except (WorkflowQueryFailedError, WorkflowQueryRejectedError) as error:
        raise ServiceUnavailable(f"{what} can't be shown: {error}") from error
    except WorkflowUpdateRPCTimeoutOrCancelledError as error:
        if isinstance(error.__cause__, asyncio.CancelledError):
            raise error.__cause__ from None  # the caller was cancelled, which Temporal's client hides
        raise _nobody(what) from error
    except RPCError as error:
        match error.status:
            case RPCStatusCode.NOT_FOUND:
                raise (ended if "already completed" in error.message else unknown) from error
            case RPCStatusCode.CANCELLED | RPCStatusCode.DEADLINE_EXCEEDED:
                raise _nobody(what) from error
            case RPCStatusCode.INVALID_ARGUMENT:
                raise InvalidInput(f"Temporal refused the request for {what}: {error.message}") from error
            case RPCStatusCode.RESOURCE_EXHAUSTED:
                raise ServiceUnavailable(
                    f"too much is asked of {what} at this moment ({error.message}); try again"
                ) from error
        raise ServiceUnavailable(f"Temporal: {error.message}; try again") from error


@contextmanager
def of_ticket(workflow_id: str) -> Iterator[None]:
    """Turn Temporal's errors about a ticket's workflow, or about one of its planners, into ours; raises the same."""
    unknown = UnknownTicket(f"unknown ticket {workflow_id}; `standfast list` shows all")
    ended = DecisionUnheard(f"{workflow_id} has ended already", reason=Refusal.NOT_WAITING)
    with translated(workflow_id, unknown=unknown, ended=ended):
        yield


def _nobody(what: str) -> ServiceUnavailable:
    seconds = int(ANSWER.total_seconds())
    return ServiceUnavailable(
        f"no core worker answered for {what} within {seconds} s; is `standfast up` or a core worker running?"
    )
