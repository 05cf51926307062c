"""Where activities meet Temporal: heartbeats in the background, and our errors as Temporal's."""

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from standfast import steps
from standfast.errors import ServiceUnavailable, StandfastError, UnknownKey

_MAX_FAILURES = 5  # an error that nobody foresaw is a bug as a rule: it does not heal by trying for ever

logger = logging.getLogger("standfast.worker")


class Boundary(Interceptor):
    """Worker interceptor for all activities of a pool."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002 - temporalio's name
        """See the base class."""
        return _ActivityBoundary(next)


class _ActivityBoundary(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002 - temporalio's name
        failures = _earlier_failures()
        beating = asyncio.create_task(_heartbeats(failures))
        try:
            return await self.next.execute_activity(input)
        except ApplicationError as error:
            raise _with_pause(error) from error.__cause__
        except FailureError:
            raise
        except (ServiceUnavailable, UnknownKey) as error:  # a key may be added, as a service comes back
            raise ApplicationError(str(error), type=error.code, next_retry_delay=_pause()) from error
        except StandfastError as error:
            raise ApplicationError(str(error), type=error.code, non_retryable=True) from error
        except Exception as error:
            info = activity.info()
            logger.exception("activity %s failed, attempt %d", info.activity_type, info.attempt)
            bounded = info.retry_policy is not None and info.retry_policy.maximum_attempts > 0
            if bounded or failures + 1 < _MAX_FAILURES:
                activity.heartbeat(failures + 1)
                raise ApplicationError(str(error), type=type(error).__name__, next_retry_delay=_pause()) from error
            raise ApplicationError(_unforeseen(error, info), type=type(error).__name__, non_retryable=True) from error
        finally:
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating


def _pause() -> timedelta:
    info = activity.info()
    return steps.pause(info.retry_policy or RetryPolicy(), info.attempt)


def _with_pause(error: ApplicationError) -> ApplicationError:
    """Return the error with how long to wait, unless it says so itself, as a provider does that answers Retry-After."""
    return ApplicationError(
        error.message,
        *error.details,
        type=error.type,
        non_retryable=error.non_retryable,
        next_retry_delay=error.next_retry_delay or _pause(),
        category=error.category,
    )


def _unforeseen(error: Exception, info: activity.Info) -> str:
    kind = type(error).__name__
    return f"{info.activity_type} failed {_MAX_FAILURES} times, the worker's log tells where; at last: {kind}: {error}"


def _earlier_failures() -> int:
    """Return how often this activity failed unforeseen. Attempts that an outage or a dead worker ended don't count."""
    details = activity.info().heartbeat_details
    return int(details[0]) if details else 0


async def _heartbeats(failures: int) -> None:
    """Heartbeat from a task of its own: a blocked event loop misses them, and the server hands the work on.

    Each carries the number of failures, since the last heartbeat is all that the next attempt gets to know.
    """
    timeout = activity.info().heartbeat_timeout
    if timeout is None:
        return
    while True:
        await asyncio.sleep(timeout.total_seconds() / 5)  # first, so that what is done soon sends none
        # Nothing instead of 0: what is sent is encrypted, and an attempt without its key would fail for good.
        activity.heartbeat(*([failures] if failures else []))
