"""The same for programs: tickets and decisions as JSON."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from standfast.client import Standfast, parse_tickets
from standfast.dashboard.deciding import DecisionForm, deliver
from standfast.dashboard.inbox import parse_state
from standfast.dashboard.tickets import workflow_id
from standfast.dashboard.viewing import Viewing
from standfast.decision import same_person
from standfast.documents import read_json, validate
from standfast.errors import InvalidInput, NotPermitted
from standfast.settings import Settings

_BODY = "the request's body"


class Api:
    """What stands under /api."""

    def __init__(self, standfast: Standfast, settings: Settings, viewing: Viewing) -> None:
        self._standfast = standfast
        self._settings = settings
        self._viewing = viewing

    async def submit(self, request: Request) -> Response:
        """Start one ticket: 201, or 200 if the same one was submitted before."""
        (ticket, *more) = parse_tickets(await _text(request), source=_BODY, settings=self._settings)
        if more:
            raise InvalidInput(f"{_BODY}: holds {len(more) + 1} tickets; send one a request")
        user = request.state.session.user
        if not same_person(ticket.requester, user) and not self._settings.review.solo:
            # Else one could open a ticket in another's name, and approve it.
            raise NotPermitted(f"this session submits tickets of {user!r} only, got requester {ticket.requester!r}")
        submitted = await self._standfast.submit(ticket)
        return _json(submitted.model_dump(mode="json"), status=201 if submitted.started else 200)

    async def list(self, request: Request) -> Response:
        """Return tickets, newest first; `state` and `target` may be given several times."""
        query = request.query_params
        states = [parse_state(name) for name in query.getlist("state")]
        rows = await self._standfast.tickets(states, query.getlist("target"))
        return _json({"tickets": [row.model_dump(mode="json") for row in rows]})

    async def show(self, request: Request) -> Response:
        """Return one ticket whole."""
        view = await self._standfast.view(workflow_id(request))
        await self._viewing.note(view, request.state.session)
        return _json(view.model_dump(mode="json"))

    async def decide(self, request: Request) -> Response:
        """Take a decision, and return its record."""
        body = await _text(request)
        form = validate(DecisionForm, read_json(body, source=_BODY), source=_BODY, line=1, text=body)
        record = await deliver(self._standfast, workflow_id(request), request.state.session, form)
        return _json(record.model_dump(mode="json"))

    async def undo(self, request: Request) -> Response:
        """Start the undo of an executed ticket: 201 and its workflow id, or 200 if one is under way."""
        undo = await self._standfast.undo(workflow_id(request), by=request.state.session.user)
        return _json(undo.model_dump(mode="json"), status=201 if undo.started else 200)


async def _text(request: Request) -> str:
    try:
        return (await request.body()).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{_BODY}: is not UTF-8: {error.reason} at byte {error.start}") from None


def _json(content: Mapping[str, object], *, status: int = 200) -> Response:
    return JSONResponse(content, status_code=status)
