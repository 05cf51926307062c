"""Errors of activities: what heals by itself is tried until it does; what nobody foresaw only a few times."""

from datetime import timedelta
from uuid import uuid4

import pytest_asyncio
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from standfast import cluster, steps
from standfast.boundary import Boundary
from standfast.errors import InvalidInput, ServiceUnavailable
from standfast.settings import Settings

AWAY = ServiceUnavailable("the database is away")
BUG = KeyError("id")


@pytest_asyncio.fixture
async def temporal(temporal_server: str) -> Client:
    return await cluster.connect(Settings(temporal={"address": temporal_server}))


@workflow.defn(name="OneActivity", sandboxed=False)
class OneActivity:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(
            "fails",
            start_to_close_timeout=timedelta(seconds=60),
            heartbeat_timeout=steps.HEARTBEAT,
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=1), backoff_coefficient=1),
        )


async def failing(temporal: Client, *errors: Exception) -> tuple[int, BaseException | None]:
    """Let an activity fail with these errors, one an attempt; return its attempts, and what the workflow got."""
    attempts = 0

    @activity.defn(name="fails")
    async def fails() -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= len(errors):
            raise errors[attempts - 1]

    queue = uuid4().hex
    async with Worker(
        temporal, task_queue=queue, activities=[fails], workflows=[OneActivity], interceptors=[Boundary()]
    ):
        try:
            await temporal.execute_workflow(OneActivity.run, id=queue, task_queue=queue)
        except WorkflowFailureError as error:
            return attempts, error.cause.__cause__
    return attempts, None


async def test_a_service_that_is_away_is_waited_for(temporal: Client) -> None:
    assert await failing(temporal, *[AWAY] * 7) == (8, None)


async def test_an_error_that_nobody_foresaw_is_tried_five_times(temporal: Client) -> None:
    attempts, error = await failing(temporal, *[BUG] * 7)
    assert isinstance(error, ApplicationError)
    assert (attempts, error.type) == (5, "KeyError")
    assert error.message == "fails failed 5 times, the worker's log tells where; at last: KeyError: 'id'"


async def test_attempts_that_an_outage_took_are_not_held_against_it(temporal: Client) -> None:
    assert await failing(temporal, *[AWAY] * 5, BUG, AWAY, BUG) == (9, None)
    attempts, error = await failing(temporal, *[AWAY, BUG] * 6)
    assert isinstance(error, ApplicationError)
    assert (attempts, error.type) == (10, "KeyError")


async def test_what_can_never_be_right_is_tried_once(temporal: Client) -> None:
    attempts, error = await failing(temporal, InvalidInput("a field is wrong"))
    assert isinstance(error, ApplicationError)
    assert (attempts, error.type, error.message) == (1, "invalid-input", "a field is wrong")
