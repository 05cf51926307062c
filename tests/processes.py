"""Processes as tests look at them."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

Seen = TypeVar("Seen")

LIMIT = 60.0  # seconds; generous, since machines that run tests are slow at times


def is_running(pid: int) -> bool:
    """Whether a process runs; one that ended but was not waited for by its parent doesn't."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return not Path("/proc/self").exists()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(0.02)


async def eventually(look: Callable[[], Awaitable[Seen]], enough: Callable[[Seen], bool]) -> Seen:
    """Look until what is seen is enough, and return it."""
    async with asyncio.timeout(LIMIT):
        while not enough(seen := await look()):  # noqa: ASYNC110 - what is waited for happens in a server
            await asyncio.sleep(0.05)
    return seen
