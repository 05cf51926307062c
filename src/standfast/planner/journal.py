"""The journal of model calls: an answer that was received is never paid for again, whatever happens to its worker.

Between the provider's answer and Temporal's acknowledgement of it a worker may die, or its connection be cut. So the
answer is first written to the control database, under the key of its activity, which all attempts share. A later
attempt finds it there and calls nobody. It is encrypted there as it is in Temporal.
"""

import asyncio
import logging
import time
from decimal import Decimal
from typing import Any

import psycopg
from pydantic_ai.messages import ModelResponse
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.converter import PayloadCodec
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from standfast import steps
from standfast.codec.reading import of_workflow
from standfast.errors import ServiceUnavailable, StandfastError, UnknownKey
from standfast.steps import PLAN
from standfast.storage.contents import unmarked
from standfast.store.databases import Databases
from standfast.store.sql import statements

_SQL = statements(__package__, "journal.sql")
_PAID = ("__model_request", "__model_compact_messages")  # in pydantic-ai's names of activities
_PAUSE = 0.2  # seconds between two tries to read or record an answer
_MOST_TOKENS = 2**31 - 1  # that the journal's columns hold

logger = logging.getLogger("standfast.worker")


class Journal(Interceptor):
    """Worker interceptor for the activities that cost money: model requests, and a planner function of one's own."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002 - temporalio's name
        """See the base class."""
        return _Journaled(next, self._databases)


class _Journaled(ActivityInboundInterceptor):
    def __init__(self, following: ActivityInboundInterceptor, databases: Databases) -> None:
        super().__init__(following)
        self._databases = databases

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002 - temporalio's name
        if not is_paid(activity.info().activity_type):
            return await self.next.execute_activity(input)
        recorded = await self._recorded()
        if recorded is not None:
            return RawValue(recorded)
        answer = await self.next.execute_activity(input)
        (payload,) = activity.payload_converter().to_payloads([answer])
        await self._record(payload, answer)
        return RawValue(payload)

    async def _recorded(self) -> Payload | None:
        """Return the answer to an earlier attempt, None if there was none; where attempts are few, wait for it.

        Raises:
            ServiceUnavailable: the journal can't be read; calling now might pay twice.
            UnknownKey: the answer is encrypted with another key.
            ApplicationError: one of the two, for too long.
        """
        info = activity.info()
        attempts_are_few = info.retry_policy is not None and info.retry_policy.maximum_attempts > 0
        try:
            return await self._look()
        except (ServiceUnavailable, UnknownKey) as error:
            if not attempts_are_few:
                raise
            logger.warning("%s waits for the journal: %s", info.workflow_id, error)
        give_up = time.monotonic() + steps.MODEL_GIVE_UP.total_seconds()
        while True:
            await asyncio.sleep(_PAUSE)
            try:
                return await self._look()
            except (ServiceUnavailable, UnknownKey) as error:
                if time.monotonic() > give_up:
                    raise ApplicationError(str(error), type=error.code, non_retryable=True) from error

    async def _look(self) -> Payload | None:
        async with self._databases.journal() as connection:
            row = await (await connection.execute(_SQL["reuse"], _key())).fetchone()
        return None if row is None else await _decrypted(Payload.FromString(row["answer"]))

    async def _record(self, payload: Payload, answer: Any) -> None:
        """Write the answer down; where that can't be done, or not in time, report it all the same: it was paid for."""
        key = _key()
        try:
            row = key | _bill(answer) | {"answer": (await _encrypted(payload)).SerializeToString()}
            async with asyncio.timeout(steps.JOURNAL.total_seconds()):
                while not await self._written(row):  # noqa: ASYNC110 - there is nothing to wait for but time
                    await asyncio.sleep(_PAUSE)
        except TimeoutError:
            logger.error("an answer for %s is not in the journal: no time left", key["workflow_id"])  # noqa: TRY400
        except (psycopg.Error, StandfastError):
            logger.exception("an answer for %s is not in the journal", key["workflow_id"])

    async def _written(self, row: dict[str, Any]) -> bool:
        try:
            async with self._databases.journal() as connection:
                await connection.execute(_SQL["record"], row)
        except ServiceUnavailable as error:
            logger.warning("an answer for %s is not in the journal yet: %s", row["workflow_id"], error)
            return False
        return True


def is_paid(activity_type: str) -> bool:
    """Tell whether each call of an activity of this type costs money."""
    return activity_type == PLAN.name or any(name in activity_type for name in _PAID)


async def _encrypted(payload: Payload) -> Payload:
    codec = _codec()
    return payload if codec is None else unmarked((await codec.encode([payload]))[0])[0]


async def _decrypted(payload: Payload) -> Payload:
    """Return a recorded payload as it was before it was encrypted; old ones never were."""
    codec = _codec()
    return payload if codec is None else (await codec.decode([payload]))[0]


def _codec() -> PayloadCodec | None:
    """Return the codec with which this activity's payloads go to Temporal."""
    info = activity.info()
    return of_workflow(activity.client().data_converter, info.namespace, info.workflow_id or "").payload_codec


def _key() -> dict[str, Any]:
    info = activity.info()
    return {
        "run_id": info.workflow_run_id,
        "activity_id": info.activity_id,
        "workflow_id": info.workflow_id,
        "activity": info.activity_type,
        "attempt": info.attempt,
    }


def _bill(answer: Any) -> dict[str, Any]:
    """Return what is known about the price: of a function of one's own nothing."""
    bill: dict[str, Any] = dict.fromkeys(("model", "input_tokens", "output_tokens", "cost_usd"))
    if isinstance(answer, ModelResponse):
        name, usage = answer.model_name, answer.usage
        bill["model"] = name if name is None or "\x00" not in name else None
        bill["input_tokens"] = _tokens(usage.input_tokens)
        bill["output_tokens"] = _tokens(usage.output_tokens)
        if None not in (bill["input_tokens"], bill["output_tokens"]):
            bill["cost_usd"] = _price(answer)
    return bill


def _tokens(count: int) -> int | None:
    """Return a provider's count, None if it can't be one: nothing that a provider says keeps an answer out."""
    return count if 0 <= count <= _MOST_TOKENS else None


def _price(answer: ModelResponse) -> Decimal | None:
    try:
        price = answer.cost().total_price
    except (AssertionError, LookupError, ValueError):  # an unknown model, or a local one
        return None
    return price if price >= 0 else None
