"""What programs send, read strictly: bodies that are JSON of bounded size, and queries without a name too many."""

from collections.abc import Mapping
from typing import TypeVar, get_origin

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from standfast.dashboard.problems import TOO_LARGE, Problems
from standfast.documents import read_json, validate
from standfast.errors import InvalidInput

MAX_BODY = 1024 * 1024
"""Bytes of a request's body."""
BODY = "the request's body"

_JSON = "application/json"

Model = TypeVar("Model", bound=BaseModel)


class BodyLimit(RequestBodyLimitMiddleware):
    """Turns bodies away that are too large; those that are announced with their length before they are sent."""

    def __init__(self, app: ASGIApp, *, problems: Problems) -> None:
        super().__init__(app, max_body_size=MAX_BODY)
        self._problems = problems

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope)
            length = request.headers.get("content-length", "")
            if length.isdecimal() and int(length) > self.max_body_size:
                message = f"the body has {length} bytes, at most {self.max_body_size} are taken"
                await self._problems.answer(request, 413, TOO_LARGE, message)(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


async def read_text(request: Request) -> str:
    """Return the text of a body that is said to be JSON.

    Raises:
        HTTPException: 415, it is said to be something else, or is compressed.
        InvalidInput: it is not UTF-8.
    """
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != _JSON:
        raise _unsupported(f"send {_JSON}, not {kind!r}" if kind else f"send Content-Type: {_JSON}", {"Accept": _JSON})
    coding = request.headers.get("content-encoding", "identity")
    if coding.strip().lower() != "identity":
        raise _unsupported(f"send it without Content-Encoding, not as {coding!r}", {"Accept-Encoding": "identity"})
    try:
        return (await request.body()).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{BODY}: is not UTF-8: {error.reason} at byte {error.start}") from None


async def read_body(model: type[Model], request: Request) -> Model:
    """Return the body as a `model`.

    Raises: as `read_text` does, and InvalidInput if it is no such document.
    """
    text = await read_text(request)
    return validate(model, read_json(text, source=BODY), source=BODY, line=1, text=text)


async def refuse_body(request: Request) -> None:
    """Refuse a body where none means anything.

    Raises:
        InvalidInput: there is one.
    """
    if await request.body():
        raise InvalidInput(f"{BODY}: has to be empty here")


def read_query(model: type[Model], request: Request) -> Model:
    """Return the query as a `model`; a field of several values takes a name as often as it is given.

    Raises:
        InvalidInput: a name is unknown or given too often, or a value is none.
    """
    values: dict[str, str | list[str]] = {}
    for name in request.query_params:
        given = request.query_params.getlist(name)
        if name in model.model_fields and get_origin(model.model_fields[name].annotation) is tuple:
            values[name] = given
        elif len(given) > 1:
            raise InvalidInput(f"the query: {name} is given {len(given)} times; give it once")
        else:
            values[name] = given[0]
    return validate(model, values, source="the query", line=None, text="")


def _unsupported(message: str, headers: Mapping[str, str]) -> HTTPException:
    return HTTPException(415, message, headers)
