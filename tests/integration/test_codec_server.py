"""The codec server reads payloads for signed-in people and for programs with its token, and for nobody else."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import httpx2
import psycopg
import pytest
import pytest_asyncio
from google.protobuf.json_format import MessageToDict
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.converter import WorkflowSerializationContext

from standfast.codec.converter import data_converter
from standfast.codec.encryption import EncryptionCodec
from standfast.codec.keyring import KeyRing, Keys, read_ring
from standfast.dashboard.codec_server import build_codec_server
from standfast.dashboard.origin import Cookie, OwnAddress
from standfast.dashboard.server import Server, listen
from standfast.dashboard.sessions import Sessions, local_session, new_login_link
from standfast.decision import Mode
from standfast.local.ports import free_port
from standfast.scope import Scope
from standfast.settings import CodecServer, Dashboard, Settings
from standfast.storage.external import external_storage
from standfast.store.databases import Databases
from standfast.store.migrate import migrate_control
from standfast.store.roles import CONTROL_ROLE, CONTROL_ROLES
from tests.integration.installation import ENCRYPTION, PASSWORD, with_user
from tests.processes import LIMIT

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "only-for-tests"
COOKIE = Cookie(OwnAddress())
OWN_UI = "http://localhost:8080"
PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'"ana@example.com"')


@asynccontextmanager
async def codec_server(settings: Settings) -> AsyncIterator[str]:
    """Serve in this process on a free port, and yield its address."""
    async with (
        Databases(settings, application="test") as databases,
        external_storage(settings, databases) as storage,
        httpx2.AsyncClient(timeout=LIMIT) as client,
    ):
        server = Server(build_codec_server(settings, databases, storage, client))
        listening = listen("127.0.0.1", settings.codec_server.port)
        serving_it = asyncio.create_task(server.serve(sockets=[listening]))
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        await serving_it


async def session_of(settings: Settings) -> str:
    """Return the token of a session, as the dashboard would put it into a cookie."""
    async with Databases(settings, application="test") as databases:
        link = httpx.URL(await new_login_link(databases, "http://127.0.0.1"))
        return await Sessions(databases).redeem(link.params["token"], local_session())


async def session_with(settings: Settings, *scopes: Scope, mode: Mode = Mode.SOLO) -> str:
    """Return the token of a session with these scopes."""
    async with Databases(settings, application="test") as databases:
        session = replace(local_session(), scopes=frozenset(scopes), mode=mode)
        return await Sessions(databases).open(session, by="link")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def settings(postgres: str, temporal_ui: str) -> Settings:
    database = f"codec_{uuid4().hex[:8]}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}".encode())
    control = make_conninfo(postgres, dbname=database)
    await migrate_control(control, dict.fromkeys(CONTROL_ROLES, PASSWORD))
    return Settings(
        control={"url": with_user(control, CONTROL_ROLE)},
        temporal={"ui": OWN_UI},
        encryption=ENCRYPTION,
        dashboard={"port": free_port()},
        codec_server=CodecServer(port=0, token=SecretStr(TOKEN), ui=temporal_ui),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(settings: Settings) -> AsyncIterator[str]:
    async with codec_server(settings) as address:
        yield address


@pytest_asyncio.fixture(loop_scope="module")
async def stranger(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=LIMIT) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def person(url: str, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A browser with a session of the dashboard, on a page of the codec server itself."""
    cookies = {COOKIE.named(settings.dashboard.port): await session_of(settings)}
    headers = {"Sec-Fetch-Site": "same-origin"}
    async with httpx.AsyncClient(base_url=url, timeout=LIMIT, headers=headers, cookies=cookies) as client:
        yield client


async def as_it_is(url: str, method: str, path: str, **headers: str) -> bytes:
    """Send a path as it stands, which clients would mend, and return the whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
    sent = {"Host": url.removeprefix("http://"), "Content-Length": "0"} | headers
    fields = "".join(f"{name}: {text}\r\n" for name, text in sent.items())
    writer.write(f"{method} {path} HTTP/1.0\r\n{fields}\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


async def encrypted(settings: Settings, ring: KeyRing | None = None) -> dict[str, Any]:
    codec = EncryptionCodec(Keys(lambda: ring or read_ring(settings.encryption)), accept_plain=False)
    context = WorkflowSerializationContext(namespace="default", workflow_id="ticket/shop/1")
    return MessageToDict(Payloads(payloads=await codec.with_context(context).encode([PLAIN])))


async def decode(client: httpx.AsyncClient, payloads: Any, **headers: str) -> httpx.Response:
    sent = {"X-Namespace": "default"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post("/codec/decode?preserveStorageRefs=true", json=payloads, headers=sent)


async def test_a_signed_in_person_and_a_program_with_the_token_read_payloads(
    settings: Settings, person: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    asked = await encrypted(settings)
    for answer in (await decode(person, asked), await decode(stranger, asked, Authorization=f"Bearer {TOKEN}")):
        assert answer.status_code == 200
        assert answer.json() == MessageToDict(Payloads(payloads=[PLAIN]))


async def test_people_see_what_their_scopes_allow_and_end_no_workflow_without_the_scope_to_decide(
    settings: Settings, url: str
) -> None:
    asked = await encrypted(settings)
    for scope, seen, ended in ((Scope.VIEW, 200, 403), (Scope.SUBMIT, 403, 403)):
        cookies = {COOKIE.named(settings.dashboard.port): await session_with(settings, scope)}
        headers = {"Sec-Fetch-Site": "same-origin"}
        async with httpx.AsyncClient(base_url=url, timeout=LIMIT, headers=headers, cookies=cookies) as client:
            assert (await decode(client, asked)).status_code == seen
            answer = await client.post("/api/v1/namespaces/default/workflows/x/terminate", json={})
            assert answer.status_code == ended
            assert answer.json()["code"] == "scope-missing"


WAYS_IN: dict[str, tuple[dict[str, Any], set[Mode]]] = {
    "a link": ({}, {Mode.SOLO}),
    "a provider": (
        {"oidc": {"issuer": "http://localhost:1", "client_id": "standfast", "groups": {"*": ["view"]}}},
        {Mode.SESSION},
    ),
    "a proxy": (
        {"trusted_proxy": {"addresses": ["127.0.0.1"], "user_header": "X-User", "groups": {"*": ["view"]}}},
        set(),
    ),
}


@pytest.mark.parametrize("way", WAYS_IN)
async def test_only_sessions_of_the_dashboards_present_way_in_count(settings: Settings, way: str) -> None:
    changes, good = WAYS_IN[way]
    port = settings.dashboard.port
    served = Dashboard.model_validate({"port": port, "url": f"http://localhost:{port}"} | changes)
    asked = await encrypted(settings)
    async with codec_server(settings.model_copy(update={"dashboard": served})) as url:
        for mode in (Mode.SOLO, Mode.SESSION):
            cookies = {COOKIE.named(port): await session_with(settings, *Scope, mode=mode)}
            async with httpx.AsyncClient(base_url=url, timeout=LIMIT, cookies=cookies) as client:
                assert (await decode(client, asked)).status_code == (200 if mode in good else 401)


@pytest.mark.parametrize(
    "credentials",
    [
        {},
        {"Authorization": "Bearer other"},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": "{}=x"},
    ],
    ids=str,
)
async def test_another_user_of_the_machine_reads_nothing(
    settings: Settings, stranger: httpx.AsyncClient, credentials: dict[str, str]
) -> None:
    headers = {name: text.format(COOKIE.named(settings.dashboard.port)) for name, text in credentials.items()}
    answer = await decode(stranger, await encrypted(settings), **headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "not-signed-in")
    assert (await stranger.get("/api/v1/settings")).status_code == 401
    page = await stranger.get("/namespaces/default/workflows", headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["location"]) == (303, f"http://127.0.0.1:{settings.dashboard.port}/")
    by_ipv6 = {"Accept": "text/html", "Host": f"[::1]:{stranger.base_url.port}"}
    page = await stranger.get("/namespaces/default/workflows", headers=by_ipv6)
    assert page.headers["location"] == f"http://[::1]:{settings.dashboard.port}/"


@pytest.mark.parametrize(
    "path", ["/api/v1/settings", "/codec/../api/v1/settings", "/codec/decode/../../api/v1/settings", "/codec"]
)
async def test_a_program_with_the_token_gets_nothing_of_temporals_ui(url: str, path: str) -> None:
    answer = await as_it_is(url, "GET", path, Authorization=f"Bearer {TOKEN}")
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b'"code":"not-signed-in"' in answer


@pytest.mark.parametrize("up", ["..", ".", "%2e%2E", ".%2e", "%252e%252e", "x%2f..", "x%5c.."])
async def test_no_path_that_leads_elsewhere_gets_a_looking_person_to_temporals_api(
    settings: Settings, url: str, up: str
) -> None:
    path = f"/codec/{up}/api/v1/namespaces/default/workflows/x/terminate"
    for scopes, status, code in (((Scope.VIEW,), 403, "scope-missing"), (Scope, 400, "invalid-input")):
        cookie = f"{COOKIE.named(settings.dashboard.port)}={await session_with(settings, *scopes)}"
        answer = await as_it_is(url, "POST", path, Cookie=cookie)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert f'"code":"{code}"'.encode() in answer


async def test_a_path_of_the_codec_servers_own_opens_nothing_by_another_method(settings: Settings, url: str) -> None:
    for method in ("GET", "PUT"):
        answer = await as_it_is(url, method, "/codec/decode", Authorization=f"Bearer {TOKEN}")
        assert answer.startswith(b"HTTP/1.1 401 ")
    cookie = f"{COOKIE.named(settings.dashboard.port)}={await session_with(settings, Scope.VIEW)}"
    assert (await as_it_is(url, "PUT", "/codec/decode", Cookie=cookie)).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    "page",
    [
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example.com"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "same-site", "Origin": "null"},
    ],
    ids=str,
)
async def test_another_page_in_the_persons_browser_reads_nothing(
    settings: Settings, person: httpx.AsyncClient, page: dict[str, str]
) -> None:
    answer = await decode(person, await encrypted(settings), **page)
    assert (answer.status_code, answer.json()["code"]) == (403, "cross-site")
    assert "access-control-allow-origin" not in answer.headers
    asking = page | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-namespace"}
    preflight = await person.options("/codec/decode", headers=asking)
    assert preflight.status_code == 400
    assert "access-control-allow-origin" not in preflight.headers


async def test_a_ui_of_ones_own_at_its_own_address_may_ask(settings: Settings, person: httpx.AsyncClient) -> None:
    page = {"Sec-Fetch-Site": "same-site", "Origin": OWN_UI}
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-namespace"}
    for answer in (
        await person.options("/codec/decode", headers=page | asking),
        await decode(person, await encrypted(settings), **page),
    ):
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == OWN_UI
        assert answer.headers["access-control-allow-credentials"] == "true"


async def test_a_name_that_was_bent_to_this_machine_is_refused(person: httpx.AsyncClient) -> None:
    answer = await person.get("/healthz", headers={"Host": "evil.example.com"})
    assert (answer.status_code, answer.json()["code"]) == (421, "wrong-host")


async def test_what_cannot_be_read_says_why(settings: Settings, person: httpx.AsyncClient) -> None:
    asked = await encrypted(settings)
    other = await decode(person, asked, X_Namespace="staging")
    assert (other.status_code, other.json()["code"]) == (403, "not-permitted")
    assert "namespace 'default'; X-Namespace says 'staging'" in other.json()["detail"]
    unknown = await decode(person, await encrypted(settings, KeyRing.new()))
    assert (unknown.status_code, unknown.json()["code"]) == (403, "unknown-key")
    assert "this process has test; add that key" in unknown.json()["detail"]
    asked["payloads"][0]["data"] = "AAAA"
    changed = await decode(person, asked)
    assert (changed.status_code, changed.json()["code"]) == (422, "payload-refused")
    assert "with key 'test'" in changed.json()["detail"]


@asynccontextmanager
async def stored(settings: Settings, namespace: str = "default") -> AsyncIterator[dict[str, Any]]:
    """A payload that is too large for Temporal, as its claim stands in a history."""
    small = settings.model_copy(update={"storage": settings.storage.model_copy(update={"threshold": 1})})
    context = WorkflowSerializationContext(namespace=namespace, workflow_id="ticket/shop/1")
    async with Databases(settings, application="test") as databases, external_storage(small, databases) as storage:
        yield MessageToDict(await data_converter(small, storage).with_context(context).encode_wrapper(["ana"]))


async def test_a_large_payload_is_read_out_of_the_storage_when_it_is_asked_for(
    settings: Settings, person: httpx.AsyncClient
) -> None:
    async with stored(settings) as claim:
        headers = {"X-Namespace": "default"}
        left = await decode(person, claim)  # as the UI does when it shows a history
        assert left.json() == claim
        for path in ("/codec/decode", "/codec/download"):
            (read,) = (await person.post(path, json=claim, headers=headers)).json()["payloads"]
            assert base64.b64decode(read["data"]) == b'"ana"'


async def test_a_large_payload_of_another_namespace_or_one_that_is_gone_is_not_read(
    settings: Settings, person: httpx.AsyncClient
) -> None:
    headers = {"X-Namespace": "default"}
    async with stored(settings, "staging") as claim:
        answer = await person.post("/codec/download", json=claim, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "not-permitted")
    async with stored(settings) as claim:
        reference = json.loads(base64.b64decode(claim["payloads"][0]["data"]))
        reference["claimData"]["sha256"] = "0" * 64
        claim["payloads"][0]["data"] = base64.b64encode(json.dumps(reference).encode()).decode()
        answer = await person.post("/codec/download", json=claim, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (410, "payload-lost")


@pytest.mark.parametrize("body", ["", "{", '{"payloads": 1}'])
async def test_a_body_that_is_none_is_refused(person: httpx.AsyncClient, body: str) -> None:
    answer = await person.post("/codec/decode", content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-input")


async def test_nothing_is_encrypted_for_anybody(person: httpx.AsyncClient) -> None:
    answer = await person.post("/codec/encode", json=MessageToDict(Payloads(payloads=[PLAIN])))
    assert answer.status_code in {403, 404, 405}


async def test_temporals_ui_is_passed_on_and_told_where_to_ask(person: httpx.AsyncClient) -> None:
    settings = (await person.get("/api/v1/settings")).json()
    assert settings["Codec"]["Endpoint"] == "/codec"
    page = await person.get("/namespaces/default/workflows")
    assert (page.status_code, page.headers["content-type"].partition(";")[0]) == (200, "text/html")
    assert page.headers["content-security-policy"] == "frame-ancestors 'none'"
    assert "_csrf" in person.cookies, "a cookie of the UI's was lost"
    assert (await person.get("/api/v1/namespaces/nowhere")).status_code == httpx.codes.NOT_FOUND


async def test_a_ui_that_is_away_is_named(settings: Settings) -> None:
    away = settings.codec_server.model_copy(update={"ui": "http://127.0.0.1:9"})
    async with codec_server(settings.model_copy(update={"codec_server": away})) as url:
        cookies = {COOKIE.named(settings.dashboard.port): await session_of(settings)}
        async with httpx.AsyncClient(base_url=url, cookies=cookies) as client:
            answer = await client.get("/")
    assert (answer.status_code, answer.json()["code"]) == (503, "service-unavailable")
    assert "Temporal's UI at http://127.0.0.1:9 can't be reached" in answer.json()["detail"]
