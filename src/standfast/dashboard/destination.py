"""The page that a person wanted who had to sign in first, such as a ticket's from a mail."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from standfast.dashboard.origin import Cookie, OwnAddress

_SECONDS = 600
_LONGEST = 1000
_INBOX = "/"


class Destination:
    """Remembers the page in the browser, until its person has signed in."""

    def __init__(self, own: OwnAddress) -> None:
        self._cookie = Cookie(own, "wanted-")

    def ask_first(self, request: Request) -> Response:
        """Send a person to the sign-in."""
        response = RedirectResponse("/login", status_code=303)
        query = request.scope["query_string"]
        wanted = (request.scope["raw_path"] + (b"?" + query if query else b"")).decode("ascii", errors="ignore")
        is_page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        if is_page and wanted != _INBOX and len(wanted) <= _LONGEST:
            self._cookie.put(request, response, wanted, seconds=_SECONDS)
        return response

    def lead(self, request: Request) -> Response:
        """Send a person who has signed in to the page, or to the inbox."""
        wanted = self._cookie.value(request)
        # Others on this host can set cookies, and `//` or `/\\` would lead to their sites.
        is_page = wanted.startswith("/") and wanted[1:2] not in {"/", "\\"}
        response = RedirectResponse(wanted if is_page else _INBOX, status_code=303)
        if wanted:
            self._cookie.remove(request, response)
        return response
