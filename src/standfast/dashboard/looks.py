"""Looks at what changes and tells nobody, each shared by all who want to see the same."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from standfast.client import Standfast
from standfast.errors import InvalidInput, ServiceUnavailable
from standfast.outcome import State
from standfast.view import TicketView

TICKET_SECONDS = 5.0
"""How often one looks for what has changed around a ticket."""
_SHARE = 10  # a tenth of the time at most goes into looks, however long they take

_Key = TypeVar("_Key", bound=Hashable)
_Found = TypeVar("_Found")


class Looks(Generic[_Key, _Found]):
    """Looks of one kind."""

    def __init__(self, seconds: float) -> None:
        """Take how often one looks at the same, at most."""
        self._seconds = seconds
        self._looks: dict[_Key, asyncio.Task[_Found]] = {}

    async def newest(self, key: _Key, look: Callable[[], Awaitable[_Found]]) -> _Found:
        """Return what was found a moment ago under this key, or is found now.

        Raises: as `look` does.
        """
        found = self._looks.get(key)
        if found is None:
            found = self._looks[key] = asyncio.ensure_future(look())
            began = asyncio.get_running_loop().time()
            found.add_done_callback(lambda _: self._keep(key, began))
        return await asyncio.shield(found)  # others may wait for it, too

    def _keep(self, key: _Key, began: float) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(max(self._seconds, (_SHARE - 1) * (loop.time() - began)), self._looks.pop, key)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a ticket's page shows and its workflow doesn't know."""

    conflicts: tuple[str, ...] = ()
    """Workflow ids of other tickets that wait with plans for some of the same rows, while this one waits."""
    progress: str = ""
    """Differs once the timeline has more to tell; empty once the ticket waits or has ended."""


class SurroundingLooks:
    """Looks at what is around tickets."""

    def __init__(self, standfast: Standfast) -> None:
        self._standfast = standfast
        self._looks = Looks[tuple[str, State], Surroundings](TICKET_SECONDS)

    async def newest(self, view: TicketView) -> Surroundings:
        """Return what was around a ticket a moment ago."""
        if view.state.is_end:
            return Surroundings()
        return await self._looks.newest((view.workflow_id, view.state), partial(self._look, view))

    async def _look(self, view: TicketView) -> Surroundings:
        try:
            if view.state is State.WAITING:
                return Surroundings(conflicts=await self._standfast.conflicts(view))
            return Surroundings(progress=await self._standfast.progress(view.workflow_id))
        except (InvalidInput, ServiceUnavailable):  # the ticket is worth showing without
            return Surroundings()
