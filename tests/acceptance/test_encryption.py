"""Encryption of a running `standfast up`: on by default, readable by its owner's tools, rotated while tickets run."""

import base64
import json
import subprocess
from typing import Any

import httpx
import psycopg
import pytest

from standfast.codec.encryption import ENCODING
from standfast.codec.keyring import KeyRing
from standfast.local.temporal import program
from tests.acceptance.installation import Installation, until

WORDS = "Unlock the account of dmitri.hart@example.com"


@pytest.fixture(scope="module")
def ticket(installation: Installation) -> str:
    workflow_id = installation.submit(id="SEALED-1", body=WORDS)
    until(lambda: installation.state(workflow_id) not in {"", "gathering"})
    return workflow_id


def temporal(installation: Installation, *arguments: str) -> str:
    """Run the program `temporal` with the profile that the set-up wrote."""
    config = installation.home / "temporal.toml"
    assert config.stat().st_mode & 0o777 == 0o600
    done = subprocess.run(
        [program(), "--config-file", config, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=installation.environment,
    )
    return done.stdout


def test_the_program_temporal_reads_a_ticket_with_the_profile_of_the_set_up(
    installation: Installation, ticket: str
) -> None:
    shown = json.loads(temporal(installation, "workflow", "show", "--workflow-id", ticket, "--output", "json"))
    payload = first_input(shown["events"])
    assert json.loads(base64.b64decode(payload["data"]))["body"] == WORDS


def test_temporal_itself_has_ciphertext_only(installation: Installation, ticket: str) -> None:
    port = json.loads((installation.home / "ports.json").read_text())["temporal-ui"]
    path = f"/api/v1/namespaces/default/workflows/{ticket.replace('/', '%2F')}/history"
    history = httpx.get(f"http://127.0.0.1:{port}{path}").json()
    payload = first_input(history["history"]["events"])
    assert base64.b64decode(payload["metadata"]["encoding"]) == ENCODING
    assert WORDS.encode() not in base64.b64decode(payload["data"])


def first_input(events: list[Any]) -> Any:
    return events[0]["workflowExecutionStartedEventAttributes"]["input"]["payloads"][0]


def test_a_key_is_rotated_while_tickets_run(installation: Installation) -> None:
    file = installation.home / "keys.toml"
    before = KeyRing.parse(file.read_text(), source="keys.toml")

    rotated = installation.run("--json", "keys", "rotate")

    assert rotated.exit_code == 0, rotated
    listed = {key["key"]: key["active"] for key in installation.run("--json", "keys", "list").json}
    assert listed == {before.active: False, rotated.json["key"]: True}
    workflow_id = installation.submit(id="SEALED-2", body=WORDS)  # with the new key, which no worker has yet
    assert until(lambda: installation.state(workflow_id) not in {"", "gathering"})
    assert key_changes(installation) == [(rotated.json["key"], before.active)]


def key_changes(installation: Installation) -> list[tuple[Any, ...]]:
    """Return new and old key ids from the audit chain."""
    with psycopg.connect(installation.setting("control", "url")) as connection:
        query = "SELECT content->>'key', content->>'before' FROM standfast.audit WHERE workflow_id = 'keys'"
        return connection.execute(query).fetchall()


def test_without_a_key_nothing_is_sent(installation: Installation) -> None:
    settings = installation.folder / "keyless.toml"
    settings.write_text('[temporal]\naddress = "127.0.0.1:9"\n[targets.shop]\n')
    answer = installation.run("--config", str(settings), "list")
    assert answer.exit_code == 2
    assert "payloads are encrypted, and there is no key" in answer.stderr
    assert "`standfast keys new` makes one" in answer.stderr
