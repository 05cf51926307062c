"""The search finds a secret in every form and place in which it could leak; else that it finds none means nothing."""

import base64
import gzip
import json
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from temporalio.client import Client
from temporalio.service import RPCError

from tests.leak.search import Marker, Source, files, leaks, postgres, sqlite
from tests.leak.wire import Recorder, said

MARKER = Marker()
SECRET = MARKER.secret("müller@example.com")
FORMS = {
    "plain": SECRET.encode(),
    "json": json.dumps({"body": SECRET}).encode(),
    "utf-16": SECRET.encode("utf-16"),
    "utf-16-be": SECRET.encode("utf-16-be"),
    "hex": SECRET.encode().hex().encode(),
    "HEX": SECRET.encode().hex().upper().encode(),
    "base64": base64.b64encode(SECRET.encode()),
    "base64 shifted by one": base64.b64encode(b"x" + SECRET.encode()),
    "base64 shifted by two": base64.b64encode(b"xy" + SECRET.encode()),
    "url-safe base64": base64.urlsafe_b64encode(b"\xff\xfe" + SECRET.encode()),
}
CONTAINERS: dict[str, Callable[[bytes], bytes]] = {
    "alone": lambda data: data,
    "in the middle": lambda data: bytes(range(256)) * 20 + data + bytes(range(256)) * 20,
    "gzip": lambda data: b"before" + gzip.compress(b"x" * 5000 + data) + b"behind",
    "gzip that was cut off": lambda data: gzip.compress(data + bytes(range(256)) * 100)[:-200],
    "zlib": lambda data: b"before" + zlib.compress(b"x" * 5000 + data, 1) + b"behind",
    "gzip in zlib": lambda data: zlib.compress(gzip.compress(data), 9),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_a_secret_is_found_in_every_form(form: str, container: str) -> None:
    assert leaks(MARKER, [Source("here", CONTAINERS[container](FORMS[form]))])


def test_another_secret_is_none() -> None:
    other = Marker().secret("müller@example.com").encode()
    assert leaks(MARKER, [Source("here", container(other)) for container in CONTAINERS.values()]) == []


def test_a_leak_says_where_and_in_which_form(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "worker.log").write_text(f"ERROR: {SECRET} is no number")
    (leak,) = leaks(MARKER, files(tmp_path))
    assert (leak.where, leak.form) == ("logs/worker.log", "plain")
    assert b"ERROR: " in leak.around


def test_a_value_that_is_spread_over_pages_of_sqlite_is_found(tmp_path: Path) -> None:
    file = tmp_path / "temporal.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE history (data BLOB)")
        connection.executemany(
            "INSERT INTO history VALUES (?)", [(b"x" * size + SECRET.encode(),) for size in range(4000, 4100)]
        )
    connection.close()
    assert [leak.where for leak in leaks(MARKER, sqlite(file))] == ["temporal.db, table history"]


async def test_a_value_in_a_column_of_any_type_is_found(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE SCHEMA kept")
        connection.execute("CREATE TABLE kept.things (words text, document jsonb, content bytea, names text[])")
        for insert in (
            "INSERT INTO kept.things (words) VALUES (%s)",
            "INSERT INTO kept.things (document) VALUES (to_jsonb(%s::text))",
            "INSERT INTO kept.things (names) VALUES (ARRAY[%s])",
        ):
            connection.execute("TRUNCATE kept.things")
            connection.execute(insert.encode(), [SECRET])
            connection.commit()
            assert [leak.where for leak in leaks(MARKER, postgres(database))] == ["kept.things"]
        connection.execute("TRUNCATE kept.things")
        connection.execute("INSERT INTO kept.things (content) VALUES (%s)", [gzip.compress(b"x" + SECRET.encode())])
    assert [leak.where for leak in leaks(MARKER, postgres(database))] == ["kept.things, compressed stream 0"]


async def test_a_secret_on_the_wire_to_temporal_is_found_though_it_is_compressed(
    temporal_server: str, tmp_path: Path
) -> None:
    host, _, port = temporal_server.rpartition(":")
    async with Recorder(host, int(port), tmp_path).open() as recorder:
        client = await Client.connect(recorder.address)
        await client.start_workflow("Unknown", SECRET, id="unknown/1", task_queue="nobody")
        with pytest.raises(RPCError):
            await client.get_workflow_handle(MARKER.secret("in an error")).describe()
        await client.get_workflow_handle("unknown/1").terminate()
    found = {leak.where.rpartition(".")[2] for leak in leaks(MARKER, said(tmp_path))}
    assert {"client, in words", "server, in words"} <= found
