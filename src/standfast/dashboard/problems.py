"""Errors as answers: a page that says what to do for people, RFC 9457 problem details for programs."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from standfast.dashboard.rendering import Renderer
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


def status_of(error: StandfastError) -> int:
    """Return the HTTP status for one of our errors."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)


def wants_problem(request: Request) -> bool:
    """Return whether a program asks, not a person with a browser."""
    return request.url.path.startswith("/api/") or request.url.path.endswith("/events")


def problem(status: int, code: str, message: str, **more: Any) -> JSONResponse:
    """Return problem details; `more` are further members."""
    known = {"type": "about:blank", "title": _title(status), "status": status, "detail": message, "code": code}
    return JSONResponse(known | more, status_code=status, media_type="application/problem+json")


def _title(status: int) -> str:
    return _TITLES.get(status, HTTPStatus(status).phrase)


class Problems:
    """Answers errors."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def answer(self, request: Request, status: int, code: str, message: str, **more: Any) -> Response:
        """Return the answer to a request that failed; `more` are further members of the problem details."""
        if wants_problem(request):
            return problem(status, code, message, **more)
        content = {"title": _title(status), "message": message, "advice": _ADVICE.get(status, "")}
        return self._renderer.page(request, "problem.html", status=status, **content)

    async def ours(self, request: Request, error: Exception) -> Response:
        """Answer an error of the tree in `standfast.errors`."""
        if not isinstance(error, StandfastError):
            raise error
        more = {"reason": error.reason} if isinstance(error, DecisionRefused) else {}
        return self.answer(request, status_of(error), error.code, str(error), **more)

    async def http(self, request: Request, error: Exception) -> Response:
        """Answer what the router refuses."""
        if not isinstance(error, HTTPException):
            raise error
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
        response = self.answer(request, error.status_code, code, f"{request.method} {request.url.path}: {error.detail}")
        response.headers.update(error.headers or {})
        return response

    async def unexpected(self, request: Request, error: Exception) -> Response:
        """Answer a defect of ours; its details go to the server's log, not to the page."""
        del error
        return self.answer(request, 500, "standfast", "The dashboard has a defect, and this request ran into it.")
