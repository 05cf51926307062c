"""Signing in by a provider of OpenID Connect: authorization code with PKCE, state and nonce (authlib checks them)."""

import hashlib
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

import httpx2
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from standfast import audit
from standfast.dashboard.access import record_refusal
from standfast.dashboard.destination import Destination
from standfast.dashboard.identity import SignInRefused, admitted
from standfast.dashboard.origin import Cookie, OwnAddress
from standfast.dashboard.rendering import Renderer
from standfast.dashboard.sessions import SESSION_LASTS, Session, Sessions
from standfast.decision import Mode
from standfast.errors import InvalidInput, ServiceUnavailable
from standfast.settings import Dashboard
from standfast.sign_in import Oidc
from standfast.store.databases import Databases

logger = logging.getLogger("standfast.dashboard")

_START = "/login/oidc"
_BACK = "/callback"
_DANCE_SECONDS = 600  # for what a person does at the provider
_LEEWAY_SECONDS = 60  # between the provider's clock and ours
_LONGEST_HINT = 3500  # browsers keep cookies of 4096 bytes
_NO_HINT = "-"  # in place of a longer one: the provider asks who signs out
_AWAY = "The provider can't sign anybody in at the moment. Try again later."
# By the codes of OAuth (RFC 6749, 4.1.2.1 and 5.2), and authlib's one for a state that the browser doesn't have.
_TOLD: Mapping[str, str] = {
    "access_denied": "The provider did not let you in, or you did not agree there. Try again.",
    "invalid_client": "The provider refuses this dashboard; an administrator has to mend dashboard.oidc.client_secret.",
    "invalid_scope": "The provider refuses what dashboard.oidc.scopes asks for; an administrator has to mend that.",
    "mismatching_state": "The sign-in was not begun in this browser, or too long ago. Try again.",
    "server_error": _AWAY,
    "temporarily_unavailable": _AWAY,
    "unauthorized_client": "The provider lets this dashboard sign nobody in; an administrator has to permit it there.",
}
# What proves that the provider itself has signed. Never `none`, and no key that both sides know.
_SIGNATURES = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})


class Provider:
    """The provider, as the settings name it; what it says of itself is read when it is needed."""

    def __init__(self, settings: Oidc, url: str) -> None:
        """Take the dashboard's `url`, to which people come back.

        Raises:
            InvalidInput: the extra `oidc` isn't installed, or there is no secret.
        """
        if settings.client_secret is None:
            raise InvalidInput("dashboard.oidc.client_secret has to be set for the dashboard (docs/identity.md)")
        if find_spec("authlib") is None:
            raise InvalidInput("dashboard.oidc needs authlib: pip install 'standfast[oidc]'")
        from authlib.integrations.starlette_client import OAuth  # noqa: PLC0415 - an extra

        self._settings = settings
        self._url = url
        self._secret = settings.client_secret.get_secret_value()
        self._client = OAuth().register(
            "provider",
            client_id=settings.client_id,
            client_secret=self._secret,
            server_metadata_url=f"{settings.issuer}/.well-known/openid-configuration",
            client_kwargs={"scope": " ".join(settings.scopes), "code_challenge_method": "S256"},
        )

    @property
    def key_of_the_dance(self) -> str:
        """Signs what a browser keeps between the way to the provider and the way back; the same after a restart."""
        return hashlib.sha256(b"standfast oidc " + self._secret.encode()).hexdigest()

    @property
    def host(self) -> str:
        """Its name, for people."""
        return urlsplit(self._settings.issuer).hostname or ""

    async def send(self, request: Request) -> Response:
        """Send a person to the provider.

        Raises:
            ServiceUnavailable: it can't be reached, or is another one than the settings name.
        """
        await self._metadata()
        redirect: Response = await self._client.authorize_redirect(request, f"{self._url}{_START}{_BACK}")
        return redirect

    async def claims(self, request: Request) -> tuple[Mapping[str, Any], str]:
        """Return what the provider says of a person who has come back, and the token in which it says so.

        Raises:
            SignInRefused: it says nothing, or nothing that can be believed.
            ServiceUnavailable: it can't be reached.
        """
        from authlib.integrations.starlette_client import OAuthError  # noqa: PLC0415 - an extra
        from joserfc.errors import JoseError  # noqa: PLC0415

        metadata = await self._metadata()
        expected = {
            "iss": {"essential": True, "value": metadata["issuer"]},
            "aud": {"essential": True, "value": self._settings.client_id},
        }
        try:
            token = await self._client.authorize_access_token(request, claims_options=expected, leeway=_LEEWAY_SECONDS)
            return token["userinfo"], token["id_token"]
        except OAuthError as error:
            # Anybody can put words into the address of this page: none of them is shown, or goes on record.
            told = _TOLD.get(error.error, "The provider has not signed you in. Try again.")
            raise SignInRefused(told, reason="not confirmed by the provider") from error
        except (JoseError, KeyError, ValueError) as error:
            logger.warning("an ID token of %s is not valid: %s", self._settings.issuer, error)
            raise SignInRefused(
                "What the provider says of you can't be believed; the dashboard's log has more.",
                reason="ID token not valid",
            ) from error
        except httpx2.HTTPError as error:
            raise self._away(error) from error

    async def end_of_session(self, hint: str | None) -> str | None:
        """Return the address at which a person ends the session at the provider, None if it has none or is away."""
        try:
            metadata = await self._metadata()
        except ServiceUnavailable:
            return None
        if "end_session_endpoint" not in metadata:
            return None
        ending = await self._client.create_logout_url(
            post_logout_redirect_uri=f"{self._url}/login",
            id_token_hint=hint,
            client_id=self._settings.client_id,
        )
        return str(ending["url"])

    async def _metadata(self) -> dict[str, Any]:
        try:
            metadata: dict[str, Any] = await self._client.load_server_metadata()
        except (httpx2.HTTPError, ValueError) as error:
            raise self._away(error) from error
        if str(metadata.get("issuer")).rstrip("/") != self._settings.issuer:
            raise ServiceUnavailable(
                f"the provider at {self._settings.issuer} says that it is {metadata.get('issuer')!r}; mend oidc.issuer"
            )
        offered = metadata.get("id_token_signing_alg_values_supported") or ["RS256"]
        metadata["id_token_signing_alg_values_supported"] = [name for name in offered if name in _SIGNATURES]
        return metadata

    def _away(self, error: Exception) -> ServiceUnavailable:
        return ServiceUnavailable(f"the provider at {self._settings.issuer} can't be reached: {error}")


class OidcLogin:
    """The pages around a session of a person whom the provider names."""

    def __init__(
        self, settings: Dashboard, own: OwnAddress, sessions: Sessions, databases: Databases, renderer: Renderer
    ) -> None:
        if settings.oidc is None or settings.url is None:
            raise InvalidInput("dashboard.oidc and dashboard.url have to be set")
        self._settings = settings.oidc
        self._provider = Provider(settings.oidc, settings.url)
        self._own = own
        self._sessions = sessions
        self._databases = databases
        self._renderer = renderer
        self._cookie = Cookie(own)
        self._destination = Destination(own)
        self._hint = Cookie(own, "hint-")
        self._dance = Cookie(own, "oidc-").named(settings.port)

    def routes(self) -> list[BaseRoute]:
        """Return the pages; only the way to the provider and back has a cookie with what is open in between."""
        from starlette.middleware.sessions import SessionMiddleware  # noqa: PLC0415 - needs itsdangerous, of the extra

        dance = Middleware(
            SessionMiddleware,
            secret_key=self._provider.key_of_the_dance,
            session_cookie=self._dance,
            max_age=_DANCE_SECONDS,
            https_only=self._own.secure,
        )
        return [
            Route("/login", self.ask),
            Mount(_START, routes=[Route("/", self.send), Route(_BACK, self.sign_in)], middleware=[dance]),
            Route("/logout", self.sign_out, methods=["POST"]),
            Route("/logout", self.signed_out),
        ]

    async def ask(self, request: Request) -> Response:
        """Show the link to the provider."""
        return self._page(request)

    async def send(self, request: Request) -> Response:
        """Send the person to the provider."""
        return await self._provider.send(request)

    async def sign_in(self, request: Request) -> Response:
        """Start a session of the person who comes back from the provider."""
        try:
            claims, id_token = await self._provider.claims(request)
            session = self._admitted(claims)
        except SignInRefused as error:
            await record_refusal(self._databases, actor=error.user or audit.SYSTEM, by="provider", reason=error.reason)
            return self._page(request, refused=str(error), status=403)
        token = await self._sessions.open(session, by="provider", instead_of=self._cookie.value(request))
        response = self._destination.lead(request)
        seconds = int(SESSION_LASTS.total_seconds())
        self._cookie.put(request, response, token, seconds=seconds)
        hint = id_token if len(id_token) <= _LONGEST_HINT else _NO_HINT
        self._hint.put(request, response, hint, seconds=seconds)
        return response

    async def sign_out(self, request: Request) -> Response:
        """End the session, here and in the database."""
        await self._sessions.sign_out(self._cookie.value(request))
        response = RedirectResponse("/logout", status_code=303)
        self._cookie.remove(request, response)
        return response

    async def signed_out(self, request: Request) -> Response:
        """Send who has signed out on to the provider, to sign out there, too.

        Not by a redirect of the form: the policy of its page forbids forms to lead elsewhere.
        """
        hint = self._hint.value(request)
        if request.state.session is not None or not hint:  # another site's link must not sign people out there
            return RedirectResponse("/login", status_code=303)
        ending = await self._provider.end_of_session(None if hint == _NO_HINT else hint)
        if ending is None:
            response: Response = RedirectResponse("/login", status_code=303)
        else:
            response = self._page(request, ending=ending)
            response.headers["Refresh"] = f"0; url={ending}"
        self._hint.remove(request, response)
        return response

    def _admitted(self, claims: Mapping[str, Any]) -> Session:
        """Return who a person is and may do.

        Raises:
            SignInRefused: the provider doesn't vouch for his name, or he is in no known group.
        """
        user = claims.get(self._settings.user_claim)
        if not isinstance(user, str):
            claim = self._settings.user_claim
            raise SignInRefused(f"The provider has not told your {claim}.", reason=f"no claim {claim}")
        if self._settings.user_claim == "email" and claims.get("email_verified") in (False, "false"):
            raise SignInRefused(
                f"The provider has not verified that {user} is yours. Verify it there, and sign in again.",
                reason="address not verified",
            )
        groups = claims.get(self._settings.groups_claim)
        several = groups if isinstance(groups, list) else [groups]
        listed = [group for group in several if isinstance(group, str)]
        return admitted(user, listed, self._settings.groups, Mode.SESSION)

    def _page(self, request: Request, *, refused: str = "", ending: str = "", status: int = 200) -> Response:
        content = {"refused": refused, "provider": self._provider.host, "ending": ending}
        return self._renderer.page(request, "login_oidc.html", status=status, **content)
