"""Log lines of services. What an exception says may quote a ticket, a row or a model, so its words stay out.

They are in the workflow's history, encrypted, where `standfast history` shows them. The log has its kind and its place,
and the words of errors that speak of services, keys and payloads alone.
"""

import logging
import sys
import traceback
from collections.abc import Iterator
from copy import copy
from types import TracebackType
from typing import TypeAlias

from standfast.errors import PayloadLost, PayloadRefused, ServiceUnavailable, UnknownKey

_QUOTES_NOTHING = (PayloadLost, PayloadRefused, ServiceUnavailable, UnknownKey)

_Caught: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def to_stderr() -> None:
    """Let this process log to its stderr, and keep the words of exceptions out of it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Discreet("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    for client in ("httpx", "httpx2"):
        logging.getLogger(client).setLevel(logging.WARNING)  # else a line for each request


class Discreet(logging.Formatter):
    """Formats exceptions without what they say."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; what another handler has made of the exception is not used, as it would be otherwise."""
        own = copy(record)
        own.exc_text = None
        return super().format(own)

    def formatException(self, ei: _Caught) -> str:  # noqa: N802 - logging's name
        """Return the stacks and the kinds of an exception and of those that led to it, the first one first."""
        return "".join(_told(error) for error in reversed(list(_chain(ei[1])))).rstrip()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _told(error: BaseException) -> str:
    words = f": {error}" if isinstance(error, _QUOTES_NOTHING) else ""
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    return "".join(traceback.format_tb(error.__traceback__)) + f"{kind}{words}\n"
