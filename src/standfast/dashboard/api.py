"""The same for programs: tickets and decisions as JSON."""

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from standfast.client import Standfast, Submitted
from standfast.dashboard.deciding import DecisionForm, deliver
from standfast.dashboard.openapi import document
from standfast.dashboard.operations import CancelRequested, History, ListQuery, NoQuery
from standfast.dashboard.origin import Cookie
from standfast.dashboard.reading import BODY, read_body, read_query, read_text, refuse_body
from standfast.dashboard.tickets import workflow_id
from standfast.dashboard.viewing import Viewing
from standfast.decision import may_decide_own, same_person
from standfast.documents import read_json
from standfast.errors import NotPermitted
from standfast.settings import Settings
from standfast.ticket_files import parse_ticket


class Api:
    """What stands under /api."""

    def __init__(self, standfast: Standfast, settings: Settings, viewing: Viewing, cookie: Cookie) -> None:
        """Take the `cookie` of sessions, which the document names."""
        self._standfast = standfast
        self._settings = settings
        self._viewing = viewing
        self._cookie = cookie

    async def document(self, request: Request) -> Response:
        """Return the OpenAPI document of this API."""
        read_query(NoQuery, request)
        return JSONResponse(document(self._settings, self._cookie.name(request)))

    async def submit(self, request: Request) -> Response:
        """Start one ticket: 201, or 200 if the same one was submitted before."""
        read_query(NoQuery, request)
        text = await read_text(request)
        value = read_json(text, source=BODY)
        ticket = parse_ticket(value, source=BODY, line=1, text=text, settings=self._settings)
        session = request.state.session
        alone = may_decide_own(session.mode, solo=self._settings.review.solo)
        if not same_person(ticket.requester, session.user) and not alone:
            # Else one could open a ticket in another's name, and approve it.
            raise NotPermitted(f"{session.user!r} submits tickets in this name only, got {ticket.requester!r}")
        return _submitted(await self._standfast.submit(ticket))

    async def list(self, request: Request) -> Response:
        """Return a page of tickets."""
        query = read_query(ListQuery, request)
        return _json(await self._standfast.lists.page(query.state, query.target, limit=query.limit, after=query.after))

    async def show(self, request: Request) -> Response:
        """Return one ticket whole."""
        read_query(NoQuery, request)
        view = await self._standfast.view(workflow_id(request))
        if request.method != "HEAD":  # which shows nobody a plan
            await self._viewing.note(view, request.state.session)
        return _json(view)

    async def history(self, request: Request) -> Response:
        """Return the timeline of a ticket."""
        read_query(NoQuery, request)
        entries = await self._standfast.history(workflow_id(request))
        return _json(History(workflow_id=workflow_id(request), entries=tuple(entries)))

    async def decide(self, request: Request) -> Response:
        """Take a decision, and return its record."""
        read_query(NoQuery, request)
        form = await read_body(DecisionForm, request)
        return _json(await deliver(self._standfast, workflow_id(request), request.state.session, form))

    async def cancel(self, request: Request) -> Response:
        """Ask a ticket to end."""
        read_query(NoQuery, request)
        await refuse_body(request)
        await self._standfast.cancel(workflow_id(request), by=request.state.session.user)
        return _json(CancelRequested(workflow_id=workflow_id(request)), status=202)

    async def undo(self, request: Request) -> Response:
        """Start the undo of an executed ticket: 201 and its workflow id, or 200 if one is under way."""
        read_query(NoQuery, request)
        await refuse_body(request)
        return _submitted(await self._standfast.undo(workflow_id(request), by=request.state.session.user))


def _submitted(submitted: Submitted) -> Response:
    if not submitted.started:
        return _json(submitted)
    return _json(submitted, status=201, headers={"Location": f"/api/tickets/{submitted.workflow_id}"})


def _json(content: BaseModel, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(content.model_dump_json(), status, headers, media_type="application/json")
