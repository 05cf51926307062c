"""Figures over many tickets, read once at a time and shown to everybody who asks within a minute."""

import asyncio
from datetime import UTC, datetime, timedelta

from standfast.client import Standfast
from standfast.errors import InvalidInput
from standfast.settings import Settings
from standfast.stats import Stats

PERIODS = {"24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30)}
PERIOD = "7d"
"""The period of who names none."""

_FRESH = timedelta(minutes=1)  # what changes from one minute to the next, nobody decides by
_PATIENCE = 5.0  # seconds that a page waits before it shows older figures, or says that there are none yet

_Choice = tuple[str, str]


class Figures:
    """The figures of each period and target, the newest ones that were read."""

    def __init__(self, standfast: Standfast, settings: Settings) -> None:
        self._standfast = standfast
        self._settings = settings
        self._read: dict[_Choice, Stats] = {}
        self._reading: dict[_Choice, asyncio.Task[Stats]] = {}
        self._one_at_a_time = asyncio.Lock()

    async def newest(self, period: str, target: str) -> Stats:
        """Return figures that are no older than a minute; `target` is empty for all of them.

        Raises:
            InvalidInput: there is no such period, or no such target.
            NotPermitted: this process has no URL of the control database, which knows what model calls cost.
            ServiceUnavailable: Temporal or the control database can't be reached.
        """
        return await asyncio.shield(self._task(period, target))

    async def soon(self, period: str, target: str) -> Stats | None:
        """Return the same, or older figures rather than wait for long, None if there are none yet; raises the same."""
        task = self._task(period, target)
        await asyncio.wait([task], timeout=_PATIENCE)
        return task.result() if task.done() else self._read.get((period, target))

    def _task(self, period: str, target: str) -> "asyncio.Task[Stats]":
        if period not in PERIODS:
            raise InvalidInput(f"unknown period {period!r}; expected one of: {', '.join(PERIODS)}")
        if target:
            self._settings.target(target)
        choice = (period, target)
        if choice not in self._reading:
            self._reading[choice] = asyncio.create_task(self._figures(choice))
            self._reading[choice].add_done_callback(lambda task: self._ended(choice, task))
        return self._reading[choice]

    async def _figures(self, choice: _Choice) -> Stats:
        known = self._read.get(choice)
        if known is not None and datetime.now(UTC) - known.as_of < _FRESH:
            return known
        period, target = choice
        async with self._one_at_a_time:
            targets = [target] if target else []
            return await self._standfast.stats(targets, datetime.now(UTC) - PERIODS[period])

    def _ended(self, choice: _Choice, task: "asyncio.Task[Stats]") -> None:
        del self._reading[choice]
        if not task.cancelled() and task.exception() is None:  # who asked was told of an error, and may ask again
            self._read[choice] = task.result()
