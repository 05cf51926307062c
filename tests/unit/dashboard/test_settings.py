"""The dashboard's settings: one way to sign in at a time, and none over an open network."""

import tomllib
from typing import Any

import pytest
from pydantic import ValidationError

from standfast.dashboard.oidc import Provider
from standfast.dashboard.server import serve
from standfast.decision import Mode
from standfast.errors import InvalidInput
from standfast.layers import load_settings
from standfast.local import configuration
from standfast.scope import Scope
from standfast.settings import Dashboard, Settings
from standfast.sign_in import Oidc

URL = "https://standfast.example.com"
OIDC = {
    "issuer": "https://login.example.com/",
    "client_id": "standfast",
    "client_secret": "hunter2",
    "groups": {"approvers": ["view", "decide"]},
}
PROXY = {"addresses": ["10.0.0.0/8"], "user_header": "X-User", "groups": {"*": ["view"]}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"oidc": OIDC}, "need url"),
        ({"trusted_proxy": PROXY}, "need url"),
        ({"url": URL, "oidc": OIDC, "trusted_proxy": PROXY}, "both set"),
        ({"url": "http://standfast.example.com"}, "is not encrypted"),
        ({"url": f"{URL}/standfast"}, "has a path"),
        ({"url": "standfast.example.com"}, "is no address"),
        ({"url": "https://user@standfast.example.com"}, "is no address"),
        ({"url": f"{URL}:99999"}, "out of range"),
        ({"url": URL, "trusted_proxy": PROXY | {"addresses": ["10.0.0.1", "0.0.0.0/0"]}}, "anybody could be anybody"),
        ({"url": URL, "oidc": OIDC | {"issuer": "http://login.example.com"}}, "is not encrypted"),
        ({"url": URL, "oidc": OIDC | {"groups": {}}}, "at least 1 item"),
        ({"url": URL, "oidc": OIDC | {"groups": {"a": ["approve"]}}}, "'view', 'submit' or 'decide'"),
        ({"url": URL, "oidc": OIDC | {"scopes": ["email"]}}, "has no 'openid'"),
        ({"url": URL, "trusted_proxy": PROXY | {"addresses": []}}, "at least 1 item"),
        ({"url": URL, "trusted_proxy": PROXY | {"addresses": ["proxy"]}}, "IPv4 or IPv6|not a valid"),
    ],
)
def test_what_would_let_strangers_in_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Dashboard.model_validate(values)


@pytest.mark.parametrize(
    ("values", "local"),
    [
        ({}, True),
        ({"url": "http://localhost:8765"}, True),
        ({"host": "10.0.0.1"}, False),
        ({"url": URL}, False),
    ],
)
async def test_what_others_can_open_is_not_local(values: dict[str, Any], *, local: bool) -> None:
    settings = Settings.model_validate({"dashboard": values})
    assert settings.dashboard.is_local is local
    if not local:
        with pytest.raises(InvalidInput, match=r"dashboard\.(host|url) is .* or dashboard\.trusted_proxy"):
            await serve(settings)


@pytest.mark.parametrize("issuer", ["http://localhost:9400", "http://127.0.0.1:9400", "https://login.example.com/a"])
def test_a_provider_on_this_machine_needs_no_encryption(issuer: str) -> None:
    dashboard = Dashboard.model_validate({"url": URL, "oidc": OIDC | {"issuer": issuer}})
    assert dashboard.oidc is not None
    assert dashboard.oidc.issuer == issuer


def test_the_clients_secret_can_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("settings") / "standfast.toml"
    public = {name: value for name, value in OIDC.items() if name != "client_secret"}
    file.write_text(configuration.to_toml({"dashboard": {"url": URL, "oidc": public}}))
    monkeypatch.setenv("STANDFAST_DASHBOARD__OIDC__CLIENT_SECRET", "hunter2")
    oidc = load_settings(file).dashboard.oidc
    assert oidc is not None
    assert oidc.client_secret is not None
    assert (oidc.client_secret.get_secret_value(), oidc.groups) == (
        "hunter2",
        {"approvers": (Scope.VIEW, Scope.DECIDE)},
    )
    assert "hunter2" not in repr(oidc)


@pytest.mark.parametrize(
    ("way", "modes"),
    [({}, {Mode.SOLO}), ({"oidc": OIDC}, {Mode.SESSION}), ({"trusted_proxy": PROXY}, set())],
    ids=["link", "oidc", "proxy"],
)
def test_only_the_dashboard_itself_gets_the_clients_secret_and_all_know_whose_sessions_count(
    way: dict[str, Any], modes: set[Mode]
) -> None:
    settings = Settings.model_validate({"dashboard": {"url": URL} | way})
    written = configuration.to_toml(configuration.dashboard(settings))
    assert Dashboard.model_validate(tomllib.loads(written)["dashboard"]) == settings.dashboard
    for document in (configuration.operator, configuration.codec_server):
        written = configuration.to_toml(document(settings))
        assert "hunter2" not in written
        assert Dashboard.model_validate(tomllib.loads(written)["dashboard"]).session_modes == modes


def test_a_dashboard_without_the_clients_secret_says_so() -> None:
    with pytest.raises(InvalidInput, match=r"dashboard\.oidc\.client_secret has to be set"):
        Provider(Oidc.model_validate(OIDC | {"client_secret": None}), URL)
