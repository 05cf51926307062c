"""A provider of OpenID Connect in a process of its own: the package's, which here also insists on PKCE.

People are whoever signs in; `put` gives them claims. A claim of the ID token's own (`aud`, `exp`, `nonce`) replaces it,
and `unsigned` takes its signature away: a provider that can't be believed.
"""

import asyncio
import base64
import hashlib
import io
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit
from wsgiref.types import StartResponse, WSGIEnvironment

import httpx

from standfast.local.ports import free_port
from tests.processes import LIMIT, eventually

CLIENT_ID, CLIENT_SECRET = "standfast", "only-for-tests"
_Answer = tuple[str, list[tuple[str, str]], bytes]


@dataclass(frozen=True)
class OidcProvider:
    """A running provider."""

    issuer: str

    async def put(self, person: str, **claims: Any) -> str:
        """Let the provider say this about a person."""
        async with httpx.AsyncClient(base_url=self.issuer, timeout=LIMIT) as client:
            (await client.put(f"/users/{person}", json=claims)).raise_for_status()
        return person

    async def sign_in(self, address: str, person: str) -> str:
        """Sign in on the page to which somebody was sent, and return where it sends him back."""
        async with httpx.AsyncClient(timeout=LIMIT) as client:
            answer = await client.post(address, data={"sub": person})
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]


@asynccontextmanager
async def oidc_provider() -> AsyncIterator[OidcProvider]:
    """Run a provider until the end of the block."""
    port = free_port()
    # The package uses a part of authlib that is on its way out.
    command = (sys.executable, "-W", "ignore", "-m", __name__, str(port))
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    try:
        provider = OidcProvider(f"http://localhost:{port}")
        await eventually(lambda: _answers(provider.issuer), bool)
        yield provider
    finally:
        process.terminate()
        await process.wait()


async def _answers(issuer: str) -> bool:
    async with httpx.AsyncClient(timeout=LIMIT) as client:
        try:
            return (await client.get(f"{issuer}/.well-known/openid-configuration")).is_success
        except httpx.TransportError:
            return False


class Strict:
    """Passes requests on to the provider, and insists on PKCE."""

    def __init__(self, app: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]) -> None:
        self._app = app
        self._challenges: dict[str, str] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, headers, body = self._answer(environ)
        kept = [(name, value) for name, value in headers if name.lower() != "content-length"]
        start_response(status, [*kept, ("Content-Length", str(len(body)))])
        return [body]

    def _answer(self, environ: WSGIEnvironment) -> _Answer:
        match environ["PATH_INFO"]:
            case "/oauth2/authorize":
                return self._authorize(environ)
            case "/oauth2/token":
                return self._token(environ)
            case "/.well-known/openid-configuration":
                status, headers, body = self._passed_on(environ)
                offered = {"id_token_signing_alg_values_supported": ["RS256", "HS256", "none"]}
                return status, headers, json.dumps(json.loads(body) | offered).encode()
        return self._passed_on(environ)

    def _authorize(self, environ: WSGIEnvironment) -> _Answer:
        asked = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
        if asked.get("code_challenge_method") != "S256" or not asked.get("nonce") or not asked.get("state"):
            return "400 Bad Request", [], b"PKCE, nonce and state are required"
        status, headers, body = self._passed_on(environ)
        back = parse_qs(urlsplit(dict(headers).get("Location", "")).query)
        if "code" in back:
            self._challenges[back["code"][0]] = asked["code_challenge"]
        return status, headers, body

    def _token(self, environ: WSGIEnvironment) -> _Answer:
        sent = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        fields = {name: values[0] for name, values in parse_qs(sent.decode()).items()}
        known = hashlib.sha256(fields.get("code_verifier", "").encode()).digest()
        if _base64(known) != self._challenges.pop(fields.get("code", ""), ""):
            return "400 Bad Request", [("Content-Type", "application/json")], b'{"error": "invalid_grant"}'
        environ["wsgi.input"] = io.BytesIO(sent)
        status, headers, body = self._passed_on(environ)
        answer = json.loads(body)
        claims = json.loads(base64.urlsafe_b64decode(answer["id_token"].split(".")[1] + "=="))
        if claims.get("unsigned"):
            header = _base64(b'{"alg":"none","typ":"JWT"}')
            answer["id_token"] = f"{header}.{_base64(json.dumps(claims).encode())}."
        return status, headers, json.dumps(answer).encode()

    def _passed_on(self, environ: WSGIEnvironment) -> _Answer:
        started: list[Any] = []

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            del exc_info
            started[:] = [status, headers]
            return lambda _: None

        body = b"".join(self._app(environ, start))
        return started[0], started[1], body


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _serve(port: int) -> None:
    from oidc_provider_mock import app  # noqa: PLC0415 - see `oidc_provider`
    from werkzeug.serving import make_server  # noqa: PLC0415

    make_server("localhost", port, Strict(app(require_nonce=True)), threaded=True).serve_forever()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
