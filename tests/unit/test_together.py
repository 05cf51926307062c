"""What is done at the same time fails as it would alone."""

import asyncio

import pytest

from standfast.errors import ServiceUnavailable
from standfast.together import together


async def test_results_come_in_the_order_of_the_work() -> None:
    second_is_done = asyncio.Event()

    async def first() -> str:
        await second_is_done.wait()
        return "first"

    async def second() -> str:
        second_is_done.set()
        return "second"

    assert await together([first(), second()]) == ["first", "second"]


async def test_the_first_error_is_raised_as_it_is_and_ends_the_rest() -> None:
    ended = asyncio.Event()
    cause = OSError("connection refused")

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def failing() -> None:
        raise ServiceUnavailable("Temporal is away") from cause

    with pytest.raises(ServiceUnavailable, match=r"^Temporal is away$") as raised:
        await together([endless(), failing()])
    assert raised.value.__cause__ is cause
    assert ended.is_set()
