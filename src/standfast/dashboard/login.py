"""Signing in by a one-time link, and out."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from standfast.dashboard.destination import Destination
from standfast.dashboard.origin import Cookie, OwnAddress
from standfast.dashboard.rendering import Renderer
from standfast.dashboard.sessions import SESSION_LASTS, LinkRefused, Sessions, local_session


class Login:
    """The pages around a session."""

    def __init__(self, sessions: Sessions, own: OwnAddress, renderer: Renderer) -> None:
        self._sessions = sessions
        self._cookie = Cookie(own)
        self._destination = Destination(own)
        self._renderer = renderer

    async def ask(self, request: Request) -> Response:
        """Show a button: looking at the link, as previews of mail and chat do, must not use it up."""
        return self._page(request, token=request.query_params.get("token", ""))

    async def sign_in(self, request: Request) -> Response:
        """Redeem the link and start a session."""
        field, before = (await request.form()).get("token"), self._cookie.value(request)
        token = field if isinstance(field, str) else ""
        try:
            session = await self._sessions.redeem(token, local_session(), instead_of=before)
        except LinkRefused as error:
            return self._page(request, refused=str(error), status=403)
        response = self._destination.lead(request)
        self._cookie.put(request, response, session, seconds=int(SESSION_LASTS.total_seconds()))
        return response

    async def sign_out(self, request: Request) -> Response:
        """End the session, here and in the database."""
        await self._sessions.sign_out(self._cookie.value(request))
        response = RedirectResponse("/login", status_code=303)
        self._cookie.remove(request, response)
        return response

    def _page(self, request: Request, *, token: str = "", refused: str = "", status: int = 200) -> Response:
        content = {"token": token, "refused": refused, "user": local_session().user}
        return self._renderer.page(request, "login.html", status=status, **content)
