"""What Temporal says about tickets and about batches is said in the same words, and names what was asked for."""

import asyncio
from datetime import timedelta

import pytest
from temporalio.client import WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError, RPCStatusCode

from standfast.errors import BatchEnded, InvalidInput, ServiceUnavailable, StandfastError, UnknownBatch
from standfast.translation import of_temporal, of_ticket, translated

UNKNOWN, ENDED = UnknownBatch("unknown batch x"), BatchEnded("batch x has ended already")


@pytest.mark.parametrize(
    ("status", "said", "kind", "expected"),
    [
        (RPCStatusCode.NOT_FOUND, "workflow not found", UnknownBatch, "unknown batch x"),
        (RPCStatusCode.NOT_FOUND, "workflow execution already completed", BatchEnded, "has ended already"),
        (RPCStatusCode.INVALID_ARGUMENT, "too long", InvalidInput, "refused the request for batch x: too long"),
        (RPCStatusCode.DEADLINE_EXCEEDED, "", ServiceUnavailable, "no core worker answered for batch x within 10 s"),
        (RPCStatusCode.RESOURCE_EXHAUSTED, "busy", ServiceUnavailable, "too much is asked of batch x"),
        (RPCStatusCode.UNAVAILABLE, "away", ServiceUnavailable, "Temporal: away; try again"),
    ],
)
def test_an_error_says_what_it_is_about_and_what_to_do(
    status: RPCStatusCode, said: str, kind: type[StandfastError], expected: str
) -> None:
    with pytest.raises(kind, match=expected), translated("batch x", unknown=UNKNOWN, ended=ENDED):
        raise RPCError(said, status, b"")


@pytest.mark.parametrize(
    ("status", "said", "kind", "expected"),
    [
        (RPCStatusCode.INVALID_ARGUMENT, "no such column", InvalidInput, "refused the request: no such column"),
        (RPCStatusCode.DEADLINE_EXCEEDED, "too late", ServiceUnavailable, "^Temporal: too late; try again$"),
        (RPCStatusCode.UNAVAILABLE, "away", ServiceUnavailable, "^Temporal: away; try again$"),
    ],
)
def test_an_error_about_a_list_names_no_ticket_and_no_worker(
    status: RPCStatusCode, said: str, kind: type[StandfastError], expected: str
) -> None:
    with pytest.raises(kind, match=expected), of_temporal():
        raise RPCError(said, status, b"")


def test_who_waited_longer_is_told_for_how_long() -> None:
    within = timedelta(seconds=40)
    with (
        pytest.raises(ServiceUnavailable, match="for ticket/shop/1 within 40 s"),
        of_ticket("ticket/shop/1", within=within),
    ):
        raise WorkflowUpdateRPCTimeoutOrCancelledError


def test_a_caller_that_is_cancelled_is_cancelled_and_hears_of_no_time_out() -> None:
    with pytest.raises(asyncio.CancelledError), translated("batch x", unknown=UNKNOWN, ended=ENDED):
        raise WorkflowUpdateRPCTimeoutOrCancelledError from asyncio.CancelledError()
    with pytest.raises(ServiceUnavailable), translated("batch x", unknown=UNKNOWN, ended=ENDED):
        raise WorkflowUpdateRPCTimeoutOrCancelledError
