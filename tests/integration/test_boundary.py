"""Errors of activities: what heals by itself is tried until it does; what nobody foresaw only a few times."""

import time
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from standfast import cluster, steps
from standfast.boundary import Boundary
from standfast.errors import InvalidInput, ServiceUnavailable, UnknownKey
from standfast.settings import Settings
from tests.integration.installation import ENCRYPTION

AnyStep = steps.Step[Any, Any]

AWAY = ServiceUnavailable("the database is away")
BUG = KeyError("id")


@pytest_asyncio.fixture
async def temporal(temporal_server: str) -> Client:
    return await cluster.connect(Settings(temporal={"address": temporal_server}, encryption=ENCRYPTION))


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


async def failing(
    temporal: Client, *errors: Exception, began: list[float] | None = None
) -> tuple[int, BaseException | None]:
    """Let an activity fail with these errors, one an attempt; return its attempts, and what the workflow got.

    `began` is told when each attempt began.
    """
    attempts = 0

    @activity.defn(name="fails")
    async def fails() -> None:
        nonlocal attempts
        attempts += 1
        if began is not None:
            began.append(time.monotonic())
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


@pytest.mark.parametrize("error", [AWAY, UnknownKey("add key 'k2'")], ids=["a service", "a key"])
async def test_what_is_away_is_waited_for(temporal: Client, error: Exception) -> None:
    assert await failing(temporal, *[error] * 7) == (8, None)


async def test_what_fails_again_and_again_is_tried_less_and_less_often(temporal: Client) -> None:
    began: list[float] = []
    await failing(temporal, *[AWAY] * 7, began=began)
    pauses = [later - earlier for earlier, later in pairwise(began)]
    assert pauses[-1] >= 0.064  # the policy's interval, doubled six times


async def test_who_says_when_to_come_back_is_obeyed(temporal: Client) -> None:
    began: list[float] = []
    await failing(temporal, ApplicationError("busy", next_retry_delay=timedelta(seconds=0.3)), began=began)
    assert began[1] - began[0] >= 0.3


@pytest.mark.parametrize("step", [steps.GATHER, steps.EXECUTE, steps.VALIDATE], ids=lambda step: step.name)
def test_the_work_of_a_lost_worker_is_taken_up_at_once_however_often_others_failed_at_it(step: AnyStep) -> None:
    for policy in (step.retry, steps.MODEL_RETRY, steps.TOOL_RETRY):
        after_ten_failures = policy.initial_interval * policy.backoff_coefficient**10
        assert after_ten_failures < timedelta(seconds=1)


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
