"""The page of one ticket: what would change, why it stopped here, who says so, and the decision."""

import asyncio
import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from standfast.client import Standfast
from standfast.dashboard.changes import as_rehearsed, operation_changes
from standfast.dashboard.comparison import Revision, revisions
from standfast.dashboard.deciding import DecisionForm, approvers, deliver, rights, wants_reason
from standfast.dashboard.freshness import Freshness, Rehearsals
from standfast.dashboard.looks import SurroundingLooks, Surroundings
from standfast.dashboard.problems import status_of
from standfast.dashboard.rendering import Renderer
from standfast.dashboard.story import story
from standfast.dashboard.viewing import Viewing
from standfast.decision import may_decide_own, same_person
from standfast.documents import validate
from standfast.errors import (
    DecisionRefused,
    InvalidInput,
    NotPermitted,
    ServiceUnavailable,
    StandfastError,
    UnknownTicket,
)
from standfast.outcome import State
from standfast.report import deleted_rows
from standfast.scope import Scope
from standfast.settings import Settings
from standfast.ticket import WORKFLOW_ID
from standfast.timeline import TimelineEntry
from standfast.view import TicketView
from standfast.web_address import by_the_name

ROWS_SHOWN = 100
"""Of one table; what an operation changes beyond that is counted, not shown."""
PATIENCE_SECONDS = 0.5
"""How long a page waits for a rehearsal; what comes later comes by its event stream."""

_STEPS = ("context", "plan", "check", "decision", "execution")
_AT: dict[State, int] = {
    State.GATHERING: 0,
    State.PLANNING: 1,
    State.VALIDATING: 2,
    State.WAITING: 3,
    State.EXECUTING: 4,
}


def workflow_id(request: Request) -> str:
    """Return the workflow id that an address names.

    Raises:
        UnknownTicket: no ticket can have it.
    """
    named = "ticket/{target}/{id}".format(**request.path_params)
    if not WORKFLOW_ID.fullmatch(named):
        raise UnknownTicket(f"unknown ticket {named!r}; the list has all")
    return named


def version(view: TicketView, freshness: Freshness | None, surroundings: Surroundings) -> str:
    """Return what differs once something that the page shows has changed."""
    return hashlib.sha256(f"{freshness} {surroundings} {view.model_dump_json()}".encode()).hexdigest()[:16]


class TicketPages:
    """The page of one ticket, its decision form and its timeline."""

    def __init__(
        self,
        standfast: Standfast,
        settings: Settings,
        renderer: Renderer,
        viewing: Viewing,
        rehearsals: Rehearsals,
        *,
        surroundings: SurroundingLooks,
    ) -> None:
        self._standfast = standfast
        self._settings = settings
        self._renderer = renderer
        self._viewing = viewing
        self._rehearsals = rehearsals
        self._surroundings = surroundings

    async def show(self, request: Request) -> Response:
        """Show the ticket."""
        return await self._page(request)

    async def decide(self, request: Request) -> Response:
        """Take the decision of the form; a refused one is answered by the same page, with the reason on top."""
        fields = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
        fields["comment"] = fields.get("comment", "").replace("\r\n", "\n")
        try:
            form = validate(DecisionForm, fields, source="the form", line=None, text="")
            await deliver(self._standfast, workflow_id(request), request.state.session, form)
        except UnknownTicket:
            raise
        except (DecisionRefused, InvalidInput) as error:
            return await self._refused(request, error, f"Your decision changed nothing: {error}.", fields)
        return RedirectResponse(f"/tickets/{workflow_id(request)}", status_code=303)

    async def rehearse(self, request: Request) -> Response:
        """Have the plan rehearsed, and all rules asked, anew, by somebody who may decide on it."""
        view = await self._standfast.view(workflow_id(request))
        refused = rights(view, request.state.session, self._settings.review).send_back
        if refused and view.state is State.WAITING:
            return await self._refused(request, NotPermitted(refused), f"Nothing is rehearsed: {refused}")
        await self._standfast.rehearse(view.workflow_id, by=request.state.session.user)
        return RedirectResponse(f"/tickets/{workflow_id(request)}", status_code=303)

    async def undo(self, request: Request) -> Response:
        """Start the undo of the ticket, or find the one that is under way, and go there."""
        try:
            undo = await self._standfast.undo(workflow_id(request), by=request.state.session.user)
        except UnknownTicket:
            raise
        except (DecisionRefused, InvalidInput) as error:
            return await self._refused(request, error, f"Nothing is taken back: {error}.")
        return RedirectResponse(f"/tickets/{undo.workflow_id}", status_code=303)

    async def cancel(self, request: Request) -> Response:
        """Ask the ticket to end, and go back to it."""
        try:
            await self._standfast.cancel(workflow_id(request), by=request.state.session.user)
        except DecisionRefused as error:
            return await self._refused(request, error, f"Nothing is cancelled: {error}.")
        return RedirectResponse(f"/tickets/{workflow_id(request)}", status_code=303)

    async def history(self, request: Request) -> Response:
        """Return the timeline as a file."""
        entries = await self._standfast.history(workflow_id(request))
        name = f"{request.path_params['target']}-{request.path_params['id']}-history.json"
        return JSONResponse(
            [entry.model_dump(mode="json") for entry in entries],
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )

    async def _refused(
        self, request: Request, error: StandfastError, said: str, fields: dict[str, str] | None = None
    ) -> Response:
        """Answer what was refused by the ticket's page with the reason on top; who may not look at tickets gets none.

        Raises:
            StandfastError: `error`, which is answered without the ticket.
        """
        if Scope.VIEW not in request.state.session.scopes:
            raise error
        return await self._page(request, refused=said, fields=fields, status=status_of(error))

    async def _page(
        self, request: Request, *, refused: str = "", fields: dict[str, str] | None = None, status: int = 200
    ) -> Response:
        session, review = request.state.session, self._settings.review
        view = await self._standfast.view(workflow_id(request))
        freshness, (surroundings, entries), undos, revised = await asyncio.gather(
            self._rehearsals.freshness(view, patience=PATIENCE_SECONDS),
            self._around(view),
            self._undos(view),
            self._revisions(view),
        )
        if request.method != "HEAD":  # which shows nobody a plan
            await self._viewing.note(view, session)
        return self._renderer.page(
            request,
            "ticket.html",
            status=status,
            **_content(view),
            freshness=freshness,
            version=version(view, freshness, surroundings),
            conflicts=surroundings.conflicts,
            undos=undos,
            revisions=revised,
            rights=rights(view, session, review),
            approvers=approvers(view, review),
            may_cancel=Scope.DECIDE in session.scopes and not view.state.is_end,
            solo=same_person(view.ticket.requester, session.user) and may_decide_own(session.mode, solo=review.solo),
            ui_link=_by_this_name(request, self._standfast.ui_link(view.workflow_id)),
            story=None if entries is None else story(entries, partial(_by_this_name, request)),
            refused=refused,
            fields=fields or {},
        )

    async def _around(self, view: TicketView) -> tuple[Surroundings, Sequence[TimelineEntry] | None]:
        """Return what is around a ticket and, read later, its timeline: what that lacks makes another version."""
        return await self._surroundings.newest(view), await self._timeline(view.workflow_id)

    async def _revisions(self, view: TicketView) -> Sequence[Revision]:
        """Return what changed with each plan; nothing while the agent is at the next one."""
        if view.plan_number < 2 or view.state is State.PLANNING:  # noqa: PLR2004 - nothing to compare
            return ()
        try:
            drafts = await self._standfast.drafts(view.workflow_id)
            return await asyncio.to_thread(revisions, drafts, view.decisions, view.plan_number)  # long statements
        except ServiceUnavailable:  # the ticket is worth showing without
            return ()

    async def _undos(self, view: TicketView) -> Sequence[TicketView] | None:
        """Return the tickets that take this one back, None if it is not known."""
        try:
            return await self._standfast.undos(view)
        except (InvalidInput, ServiceUnavailable):  # the ticket is worth showing without
            return None

    async def _timeline(self, workflow_id: str) -> Sequence[TimelineEntry] | None:
        try:
            return await self._standfast.history(workflow_id)
        except ServiceUnavailable:  # the ticket is worth showing without
            return None


def _by_this_name(request: Request, link: str | None) -> str | None:
    """Return the link by the name under which this machine was asked: a session's cookie is for one name."""
    return link and by_the_name(request.url.hostname, link)


def _content(view: TicketView) -> dict[str, Any]:
    """Return what the page says about a ticket, whoever looks."""
    report = view.report
    execution = view.outcome.execution if view.outcome else None
    return {
        "view": view,
        "path": f"/tickets/{view.workflow_id}",
        "operations": operation_changes(view.plan, report) if view.plan else (),
        "rows_limit": ROWS_SHOWN,
        "deleted_rows": deleted_rows(report) if report else 0,
        "judgement": report.judgement if report else "",
        "wants_reason": report is not None and wants_reason(report),
        "as_rehearsed": as_rehearsed(report, execution) if report and execution else False,
        "steps": _STEPS,
        "at_step": _AT.get(view.state, len(_STEPS)),
    }
