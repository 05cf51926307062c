"""The inbox: what waits for a decision, most dangerous and oldest first; below it what runs and what has ended."""

import asyncio
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from standfast.client import Standfast
from standfast.dashboard.deciding import deleted_rows
from standfast.dashboard.rendering import Renderer
from standfast.errors import InvalidInput, StandfastError
from standfast.outcome import State
from standfast.settings import Settings
from standfast.view import TicketView
from standfast.visibility import TicketRow

LISTED = 200
ENDED_LISTED = 30

_DETAILED = 50  # waiting tickets that are asked for their effect, so many at once...
_PATIENCE = 2.0  # ...and for so many seconds: a list without details is better than none
_ENDS = tuple(state for state in State if state.is_end)
_RUNNING = tuple(state for state in State if not state.is_end and state is not State.WAITING)


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What the inbox is narrowed to; empty means everything."""

    state: State | None = None
    target: str = ""

    @classmethod
    def of(cls, query: QueryParams) -> "Filter":
        """Return the filter of an address.

        Raises:
            InvalidInput: `state` is none.
        """
        return cls(state=parse_state(query["state"]) if query.get("state") else None, target=query.get("target", ""))


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A ticket that waits for a decision."""

    row: TicketRow
    view: TicketView | None
    """None if no worker told it in time."""
    overlaps: tuple[str, ...] = ()
    """Ids of other waiting tickets whose plans change some of the same rows."""

    @property
    def deletes(self) -> int:
        """How many rows the plan deletes."""
        return deleted_rows(self.view.report) if self.view and self.view.report else 0


@dataclass(frozen=True, kw_only=True)
class Groups:
    """The tickets of an inbox by what they wait for."""

    waiting: tuple[TicketRow, ...]
    running: tuple[TicketRow, ...]
    ended: tuple[TicketRow, ...]

    @property
    def version(self) -> str:
        """Differs once something in the list has changed."""
        rows = [[row.workflow_id, row.state, row.risk] for row in (*self.waiting, *self.running, *self.ended)]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def parse_state(name: str) -> State:
    """Return the state called `name`.

    Raises:
        InvalidInput: there is none.
    """
    try:
        return State(name)
    except ValueError:
        raise InvalidInput(f"unknown state {name!r}; expected one of: {', '.join(State)}") from None


async def load(standfast: Standfast, narrowed: Filter) -> Groups:
    """Return the tickets that pass the filter.

    Raises:
        UnknownTarget: the settings don't name the filter's target.
        ServiceUnavailable: Temporal can't be reached.
    """
    targets = [narrowed.target] if narrowed.target else []

    async def rows(states: Sequence[State], limit: int) -> list[TicketRow]:
        wanted = [state for state in states if narrowed.state in (None, state)]
        return await standfast.tickets(wanted, targets, limit) if wanted else []

    waiting, running, ended = await asyncio.gather(
        rows([State.WAITING], LISTED), rows(_RUNNING, LISTED), rows(_ENDS, ENDED_LISTED)
    )
    return Groups(waiting=tuple(waiting), running=tuple(running), ended=tuple(ended))


class Inbox:
    """The page with the list."""

    def __init__(self, standfast: Standfast, settings: Settings, renderer: Renderer) -> None:
        self._standfast = standfast
        self._settings = settings
        self._renderer = renderer

    async def show(self, request: Request) -> Response:
        """Show the inbox."""
        narrowed = Filter.of(request.query_params)
        groups = await load(self._standfast, narrowed)
        return self._renderer.page(
            request,
            "inbox.html",
            waiting=in_order(groups.waiting, await self._views(groups.waiting)),
            running=groups.running,
            ended=groups.ended,
            version=groups.version,
            capped=LISTED in (len(groups.waiting), len(groups.running)),
            limits={"all": LISTED, "ended": ENDED_LISTED},
            narrowed=narrowed,
            states=list(State),
            targets=sorted(self._settings.targets),
            query=f"?{request.url.query}" if request.url.query else "",
        )

    async def _views(self, rows: Sequence[TicketRow]) -> Mapping[str, TicketView]:
        views: dict[str, TicketView] = {}

        async def ask(workflow_id: str) -> None:
            with suppress(StandfastError):
                views[workflow_id] = await self._standfast.view(workflow_id)

        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await asyncio.gather(*(ask(row.workflow_id) for row in rows[-_DETAILED:]))
        return views


def in_order(rows: Iterable[TicketRow], views: Mapping[str, TicketView]) -> list[Waiting]:
    """Return the waiting tickets: those that delete rows first, then by age."""
    overlapping = overlaps(views.values())
    waiting = [
        Waiting(row=row, view=views.get(row.workflow_id), overlaps=overlapping.get(row.workflow_id, ())) for row in rows
    ]
    return sorted(waiting, key=lambda w: (not w.deletes, w.row.started_at))


def overlaps(views: Iterable[TicketView]) -> dict[str, tuple[str, ...]]:
    """Return, by workflow id, the ids of the other tickets whose plans change some of the same rows."""
    touching: defaultdict[tuple[str, str, str], dict[str, str]] = defaultdict(dict)
    for view in views:
        for operation in view.report.operations if view.report else ():
            for change in operation.rows:
                if change.key:
                    row = (view.ticket.target, change.table, json.dumps(change.key, sort_keys=True))
                    touching[row][view.workflow_id] = view.ticket.id
    found: defaultdict[str, set[str]] = defaultdict(set)
    for tickets in touching.values():
        for workflow_id in tickets:
            found[workflow_id] |= {other for key, other in tickets.items() if key != workflow_id}
    return {workflow_id: tuple(sorted(others)) for workflow_id, others in found.items() if others}
