"""A connection to Temporal that can't be is told with its address and its reason, whoever configured it."""

import asyncio
from pathlib import Path

import pytest

from standfast import cluster
from standfast.errors import InvalidInput, ServiceUnavailable
from standfast.local.ports import free_port
from standfast.settings import Settings


def connect(address: str = "127.0.0.1:1") -> None:
    settings = Settings.model_validate({"temporal": {"address": address}, "encryption": {"enabled": False}})
    asyncio.run(cluster.connect(settings))


@pytest.mark.parametrize("address", ["::::", "x:y", "a b:1"])
def test_an_address_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", address)
    with pytest.raises(InvalidInput, match=rf"at '{address}': .*; expected HOST:PORT; set .* TEMPORAL_ADDRESS"):
        connect()


def test_no_address_at_all_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"at '': .*; expected HOST:PORT; set temporal\.address"):
        connect("")


@pytest.mark.parametrize("variable", ["TEMPORAL_TLS_SERVER_CA_CERT_PATH", "TEMPORAL_TLS_CLIENT_CERT_PATH"])
def test_a_certificate_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "/nowhere/ca.pem")
    with pytest.raises(InvalidInput, match=r"Temporal's client configuration can't be read: .*'/nowhere/ca\.pem'"):
        connect()


@pytest.mark.parametrize("text", ["api_key = hunter2", 'api_key = ["hunter2"]', 'tls = "hunter2"'])
def test_a_configuration_of_temporal_s_that_is_none_is_not_quoted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    (tmp_path / "temporal.toml").write_text(f"[profile.default]\n{text}\n")
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "temporal.toml"))
    with pytest.raises(InvalidInput, match=r"Temporal's client configuration can't be read: .* line 2") as raised:
        connect()
    assert "hunter2" not in str(raised.value)


def test_a_server_that_is_away_is_named_with_the_reason() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(ServiceUnavailable, match=f"Temporal at {address} can't be reached; .*Connection refused"):
        connect(address)


async def test_a_server_that_speaks_no_tls_is_told_from_one_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1") as server:
        host, port = server.sockets[0].getsockname()
        monkeypatch.setenv("TEMPORAL_TLS", "true")
        monkeypatch.setenv("TEMPORAL_API_KEY", "hunter2")
        settings = Settings.model_validate(
            {"temporal": {"address": f"{host}:{port}"}, "encryption": {"enabled": False}}
        )
        with pytest.raises(ServiceUnavailable, match="InvalidContentType") as raised:
            await cluster.connect(settings)
    assert "hunter2" not in str(raised.value)
