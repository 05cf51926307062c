"""Would a waiting plan still do what its page shows? Rehearsed once more, again and again, while somebody looks."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic

from standfast.client import Standfast
from standfast.dashboard.looks import TICKET_SECONDS
from standfast.errors import StandfastError
from standfast.outcome import State
from standfast.steps import Rehearsed
from standfast.view import TicketView

logger = logging.getLogger("standfast.dashboard")

EVERY_SECONDS = 15.0
"""How often a plan is rehearsed at most, however many look at it..."""
_SHARE = 20
"""...and no more than for one part in so many of the time: rehearsals hold locks on rows."""
AT_ONCE = 4
"""How many plans are rehearsed together, of all tickets that people look at."""
_FORGOTTEN_SECONDS = 600.0


class Freshness(StrEnum):
    """What is known about a waiting plan's rows."""

    FRESH = "fresh"
    """The plan would do exactly what is shown."""
    STALE = "stale"
    """It would do something else: rows, or constraints, have changed."""
    UNKNOWN = "unknown"
    """Not found out yet, or it can't be at the moment."""


@dataclass(frozen=True, kw_only=True)
class _Look:
    shown: str
    before: Freshness
    """What the one before has found about the same."""
    task: asyncio.Task[tuple[Freshness, float]]
    """What it finds, and when the next one may start, by the monotonic clock."""

    @property
    def known(self) -> Freshness:
        return self.task.result()[0] if self.task.done() else self.before

    def over(self, *, since: float = 0) -> bool:
        return self.task.done() and monotonic() >= self.task.result()[1] + since


class Rehearsals:
    """Rehearses waiting plans for whoever looks at their pages; one at a time for each ticket."""

    def __init__(self, standfast: Standfast, closing: asyncio.Event) -> None:
        """Take `closing`, which is set once nobody looks any more."""
        self._standfast = standfast
        self._closing = closing
        self._looks: dict[str, _Look] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def freshness(self, view: TicketView, *, patience: float = 0) -> Freshness | None:
        """Return what is known, after waiting `patience` seconds at most; None if the ticket doesn't wait."""
        if view.state is not State.WAITING or view.report is None:
            return None
        look = self._look(view)
        if look.known is Freshness.UNKNOWN:
            await asyncio.wait({look.task}, timeout=patience)
        return look.known

    async def follow(self, views: AsyncGenerator[TicketView]) -> AsyncGenerator[tuple[TicketView, Freshness | None]]:
        """Yield each view with what is known about its rows, again whenever that may have changed, and now and then."""
        async with aclosing(views):
            view = await anext(views, None)
            following = asyncio.ensure_future(_next(views))
            try:
                while view is not None:
                    freshness = await self.freshness(view)
                    yield view, freshness
                    await self._news(view, freshness, following)
                    if following.done():
                        view = following.result()
                        following = asyncio.ensure_future(_next(views))
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    async def _news(
        self, view: TicketView, freshness: Freshness | None, following: asyncio.Future[TicketView | None]
    ) -> None:
        """Wait a while, or until `following` has the next view or more may be known about a waiting plan's rows."""
        looking = {asyncio.ensure_future(self._again(view))} if freshness else set()
        try:
            await asyncio.wait(looking | {following}, timeout=TICKET_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for look in looking:
                look.cancel()
            await asyncio.gather(*looking, return_exceptions=True)

    async def _again(self, view: TicketView) -> None:
        """Wait until the present look has ended, or the next one if it has."""
        look = self._look(view)
        if look.task.done():
            await asyncio.sleep(look.task.result()[1] - monotonic())
            look = self._look(view)
        await asyncio.wait({look.task})

    def _look(self, view: TicketView) -> _Look:
        """Return the newest look at what the view shows; a new one if its time has come."""
        shown = "" if view.report is None else view.report.model_dump_json(include={"plan_digest", "rehearsed_at"})
        last = self._looks.get(view.workflow_id)
        if last is not None and last.shown == shown and not last.over():
            return last
        self._looks = {name: one for name, one in self._looks.items() if not one.over(since=_FORGOTTEN_SECONDS)}
        before = last.known if last is not None and last.shown == shown else Freshness.UNKNOWN
        look = _Look(shown=shown, before=before, task=asyncio.create_task(self._in_turn(view, before)))
        self._looks[view.workflow_id] = look
        return look

    async def _in_turn(self, view: TicketView, before: Freshness) -> tuple[Freshness, float]:
        async with self._at_once:
            return await self._rehearse(view, before)

    async def _rehearse(self, view: TicketView, before: Freshness) -> tuple[Freshness, float]:
        started = monotonic()
        # What was stale is so until it is found fresh: that nothing can be found out makes no plan good again.
        freshness = Freshness.STALE if before is Freshness.STALE else Freshness.UNKNOWN
        found = await self._found(view)
        if found is not None and view.report is not None and found.plan_digest == view.report.plan_digest:
            same = found.fingerprint == view.report.fingerprint
            freshness = Freshness.FRESH if same else Freshness.STALE
        took = monotonic() - started
        return freshness, started + max(EVERY_SECONDS, _SHARE * took)

    async def _found(self, view: TicketView) -> Rehearsed | None:
        asking = asyncio.ensure_future(self._standfast.rehearsed(view))
        closing = asyncio.ensure_future(self._closing.wait())
        await asyncio.wait({asking, closing}, return_when=asyncio.FIRST_COMPLETED)
        for task in (asking, closing):
            task.cancel()
        try:
            return await asking
        except asyncio.CancelledError:
            return None
        except StandfastError:  # the page says that it is not known
            return None
        except Exception:
            logger.exception("a rehearsal of %s ended unexpectedly", view.workflow_id)
            return None


async def _next(views: AsyncGenerator[TicketView]) -> TicketView | None:
    return await anext(views, None)
