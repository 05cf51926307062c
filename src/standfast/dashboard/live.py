"""Server-sent events: a page is told that there is something newer, and fetches it."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from functools import partial

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Send
from starlette.types import Scope as ASGIScope

from standfast.client import Standfast
from standfast.dashboard.freshness import Rehearsals
from standfast.dashboard.identity import People
from standfast.dashboard.inbox import Filter, Listing, load
from standfast.dashboard.looks import Looks, SurroundingLooks
from standfast.dashboard.tickets import version, workflow_id
from standfast.decision import folded
from standfast.errors import StandfastError
from standfast.scope import Scope

KEEP_ALIVE_SECONDS = 15.0
"""A comment so often, so that nobody in between takes a quiet stream for a dead one."""
LIST_SECONDS = 1.0
"""How often a list is looked at, for all who see it; Temporal's visibility store has nothing to push."""
STREAMS = 20
"""How many of them one person may follow at a time."""
_EVENTS = "text/event-stream"


class Streams:
    """The event streams of the inbox and of tickets, each for as long as who follows it may look at tickets.

    All end once `closing` is set: a server that stops can't wait.
    """

    def __init__(
        self,
        standfast: Standfast,
        rehearsals: Rehearsals,
        surroundings: SurroundingLooks,
        people: People,
        closing: asyncio.Event,
    ) -> None:
        self._standfast = standfast
        self._lists = Looks[Filter, Listing](LIST_SECONDS)
        self._surroundings = surroundings
        self._people = people
        self._rehearsals = rehearsals
        self._closing = closing
        self._followed = Counter[str]()

    async def inbox(self, request: Request) -> Response:
        """Tell when the list, as the address narrows it, has changed."""
        return self._response(request, self._list_versions(Filter.of(request.query_params)))

    async def ticket(self, request: Request) -> Response:
        """Tell when the ticket has changed."""
        return self._response(request, self._ticket_versions(workflow_id(request)))

    def _response(self, request: Request, versions: AsyncGenerator[str]) -> Response:
        if request.method == "HEAD":
            return Response(media_type=_EVENTS)
        user = request.state.session.user
        if self._followed[folded(user)] >= STREAMS:
            raise HTTPException(429, f"{STREAMS} pages of {user} are live, the most for one person; close some")
        self._followed.update([folded(user)])
        leave = partial(self._followed.subtract, [folded(user)])
        return _Stream(self._events(request, versions), leave)

    async def _list_versions(self, wanted: Filter) -> AsyncGenerator[str]:
        last = ""
        while True:
            listing = await self._lists.newest(wanted, partial(load, self._standfast, wanted))
            if listing.version != last:
                last = listing.version
                yield last
            await asyncio.sleep(LIST_SECONDS)

    async def _ticket_versions(self, watched: str) -> AsyncGenerator[str]:
        last = ""
        async with aclosing(self._rehearsals.follow(self._standfast.watch(watched))) as following:
            async for view, freshness in following:
                newest = version(view, freshness, await self._surroundings.newest(view))
                if newest != last:
                    last = newest
                    yield last

    async def _may_look(self, request: Request) -> bool:
        """Return whether who began to follow still may: he may have been signed out since.

        Raises: as `People.of` does.
        """
        session = await self._people.of(request)
        return session is not None and Scope.VIEW in session.scopes

    async def _events(self, request: Request, versions: AsyncGenerator[str]) -> AsyncIterator[str]:
        closing = asyncio.create_task(self._closing.wait())
        following = asyncio.create_task(_next(versions))
        try:
            yield "retry: 2000\n\n"
            while True:
                await asyncio.wait({closing, following}, timeout=KEEP_ALIVE_SECONDS, return_when="FIRST_COMPLETED")
                if self._closing.is_set() or not await self._may_look(request):
                    return
                if not following.done():
                    yield ": still here\n\n"
                    continue
                newest = following.result()
                if newest is None:
                    yield "event: end\ndata:\n\n"
                    return
                yield f"event: changed\ndata: {newest}\n\n"
                following = asyncio.create_task(_next(versions))
        except StandfastError:
            return  # the browser connects again, and its page tells what is away
        finally:
            closing.cancel()
            following.cancel()
            await asyncio.gather(closing, following, return_exceptions=True)
            await versions.aclose()


class _Stream(StreamingResponse):
    """A stream of events that calls `leave` when it has ended, however it did."""

    def __init__(self, events: AsyncIterator[str], leave: Callable[[], None]) -> None:
        super().__init__(events, media_type=_EVENTS)
        self._leave = leave

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()


async def _next(versions: AsyncGenerator[str]) -> str | None:
    return await anext(versions, None)
