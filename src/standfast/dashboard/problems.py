"""Errors as answers: a page that says what to do for people, RFC 9457 problem details for programs."""

from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from standfast.dashboard.rendering import Renderer
from standfast.domain import Record
from standfast.errors import (
    DecisionRefused,
    InvalidInput,
    NotPermitted,
    PayloadLost,
    PayloadRefused,
    ServiceUnavailable,
    StandfastError,
    TicketConflict,
    UnknownTicket,
)

# The first that fits.
_STATUS: Mapping[type[StandfastError], int] = {
    UnknownTicket: 404,
    TicketConflict: 409,
    InvalidInput: 400,
    DecisionRefused: 409,
    NotPermitted: 403,
    PayloadLost: 410,
    PayloadRefused: 422,
    ServiceUnavailable: 503,
}
_TITLES: Mapping[int, str] = {
    400: "That can't be read",
    401: "Sign in first",
    403: "Not permitted",
    404: "There is nothing here",
    405: "That can't be done here",
    409: "Nothing was changed",
    413: "That is too long",
    415: "That can't be read",
    421: "This is not the address of the dashboard",
    500: "Something broke",
    503: "A service is away",
}
_ADVICE: Mapping[int, str] = {
    404: "The inbox shows all tickets.",
    500: "The dashboard's log has the details. Decisions are safe: the ticket's page shows which ones counted.",
    503: "Tickets wait safely meanwhile. Load this page again once the service is back; `standfast doctor` finds out "
    "what is wrong.",
}

TOO_LARGE = "content-too-large"


class Problem(Record):
    """What went wrong with a request, as RFC 9457 has it."""

    type: str = "about:blank"
    """Says no more than the status does; what went wrong is in `code`."""
    title: str
    """The status in words."""
    status: int
    detail: str
    """For people: what happened, with which value, and what to do next."""
    code: str
    """For programs: stable, such as `unknown-ticket`."""
    reason: str | None = None
    """Why a decision changed nothing, if the code is `decision-refused`; stable, too, such as `stale-plan`."""
    scope: str | None = None
    """What the token would have to be allowed to do, if the code is `scope-missing`."""


def status_of(error: StandfastError) -> int:
    """Return the HTTP status for one of our errors."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)


def wants_problem(request: Request) -> bool:
    """Return whether a program asks, not a person with a browser."""
    path: str = request.scope["path"]
    return path.startswith("/api/") or path.endswith("/events")


def problem(status: int, code: str, message: str, **more: str) -> JSONResponse:
    """Return problem details; `more` are further members."""
    details = Problem(title=HTTPStatus(status).phrase, status=status, detail=message, code=code, **more)
    content = details.model_dump(exclude_none=True)
    return JSONResponse(content, status_code=status, media_type="application/problem+json")


def _code(error: HTTPException) -> str:
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return TOO_LARGE  # what the status is called depends on the version of Python
    return HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")


class Problems:
    """Answers errors."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def answer(self, request: Request, status: int, code: str, message: str, **more: str) -> Response:
        """Return the answer to a request that failed; `more` are further members of the problem details."""
        if wants_problem(request):
            return problem(status, code, message, **more)
        title = _TITLES.get(status, HTTPStatus(status).phrase)
        content = {"title": title, "message": message, "advice": _ADVICE.get(status, "")}
        return self._renderer.page(request, "problem.html", status=status, **content)

    async def ours(self, request: Request, error: Exception) -> Response:
        """Answer an error of the tree in `standfast.errors`."""
        if not isinstance(error, StandfastError):
            raise error
        more = {"reason": error.reason} if isinstance(error, DecisionRefused) else {}
        return self.answer(request, status_of(error), error.code, str(error), **more)

    async def http(self, request: Request, error: Exception) -> Response:
        """Answer what the router refuses, and what can't be read."""
        if not isinstance(error, HTTPException):
            raise error
        response = self._of_the_router(request, error)
        response.headers.update(error.headers or {})
        return response

    def _of_the_router(self, request: Request, error: HTTPException) -> Response:
        path: str = request.scope["path"]
        if path.startswith("/static/"):  # open to all: on a page of ours, the path would say whatever a stranger likes
            return PlainTextResponse(f"{error.detail}\n", error.status_code)
        return self.answer(request, error.status_code, _code(error), f"{request.method} {path}: {error.detail}")

    async def unexpected(self, request: Request, error: Exception) -> Response:
        """Answer a defect of ours; its details go to the server's log, not to the page."""
        del error
        return self.answer(request, 500, "standfast", "The dashboard has a defect, and this request ran into it.")
