"""Cancellation of work that ends with a COMMIT: it happens whole or not at all, and one knows which."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class PointOfNoReturn:
    """Before it is passed a cancellation stops the work; after it the work goes on until its outcome is known."""

    def __init__(self) -> None:
        self.passed = False


async def whole_or_not_at_all(work: Callable[[PointOfNoReturn], Coroutine[Any, Any, Result]]) -> Result:
    """Run `work`, which passes the point of no return itself, right before its COMMIT.

    Raises:
        asyncio.CancelledError: it was cancelled in time, and has rolled back.
    """
    point = PointOfNoReturn()
    task = asyncio.create_task(work(point))
    requests, stopped = 0, False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            requests += 1
            if not (point.passed or stopped):
                stopped = task.cancel()
    if stopped and (task.cancelled() or task.exception() is not None):
        raise asyncio.CancelledError
    for _ in range(requests):
        _take_back_cancellation()
    return task.result()


def _take_back_cancellation() -> None:
    current = asyncio.current_task()
    if current is not None:
        current.uncancel()
