"""The document of the API says what the application does: no route is forgotten, every name leads somewhere."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import jsonschema_rs
import pytest
from starlette.requests import Request
from starlette.routing import Route

from standfast.client import Standfast
from standfast.dashboard.app import build_app
from standfast.dashboard.deciding import CONFIRMATION
from standfast.dashboard.openapi import document
from standfast.dashboard.operations import OPERATIONS as TAKEN
from standfast.dashboard.operations import Operation
from standfast.dashboard.reading import read_query
from standfast.decision import Refusal
from standfast.errors import InvalidInput
from standfast.settings import Encryption, Settings, Target
from standfast.store.databases import Databases

SETTINGS = Settings(
    targets={"shop": Target(), "crm": Target()}, default_target="shop", encryption=Encryption(enabled=False)
)
DOCUMENT = document(SETTINGS, "standfast-session-8765")
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
operations = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for below in value.values():
            yield from references(below)
    if isinstance(value, list):
        for below in value:
            yield from references(below)


def is_valid(schema: str, instance: Any) -> bool:
    whole = {"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]}
    return jsonschema_rs.Draft202012Validator(whole).is_valid(instance)


async def test_every_route_of_the_api_is_in_the_document_and_no_other() -> None:
    async with Databases(SETTINGS, application="test") as databases:
        # Nothing is asked of Temporal before a request comes.
        app = build_app(SETTINGS, Standfast(None, SETTINGS), databases)  # type: ignore[arg-type]
    routes = [route for route in app.routes if isinstance(route, Route) and route.path.startswith("/api")]
    served = {f"{method} {route.path}" for route in routes for method in (route.methods or ()) if method != "HEAD"}
    by_id_alone = {name for name in served if "/tickets/{id}" in name}
    assert served - by_id_alone == set(OPERATIONS)
    of_ticket = {name for name in OPERATIONS if "{id}" in name}
    assert by_id_alone == {name.replace("/ticket/{target}/{id}", "/{id}") for name in of_ticket}


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    known = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert set(references(DOCUMENT)) == known


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"])
def test_every_schema_is_one(name: str) -> None:
    jsonschema_rs.meta.validate(DOCUMENT["components"]["schemas"][name])


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)


@operations
def test_every_operation_says_what_it_does_and_answers_and_which_problems_it_has(operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["security"] == [{"session": []}, {"token": [operation["security"][1]["token"][0]]}]
    answers = operation["responses"]
    assert {"400", "401", "403", "421", "503"} < set(answers)
    for status, answer in answers.items():
        (kind,) = answer["content"]
        assert kind == ("application/json" if status < "400" else "application/problem+json")
        assert answer["description"]


@operations
def test_every_parameter_has_a_schema(operation: dict[str, Any]) -> None:
    for parameter in operation["parameters"]:
        assert jsonschema_rs.meta.is_valid(parameter["schema"])
        assert parameter["in"] in {"path", "query"}
        assert parameter["in"] == "query" or parameter["required"] is True


QUERY_VALUES = {
    "state": (["waiting"], ["asleep"]),
    "target": (["shop", "crm"], ["elsewhere", "no spaces"]),
    "limit": (["1", "1000"], ["0", "1001", "many"]),
    "after": (["abc-_=="], ["%"]),
    "period": (["24h", "30d"], ["9d"]),
}
"""Of each parameter, values that the API takes, and some that it refuses."""


@pytest.mark.parametrize(("operation", "name"), [(one, name) for one in TAKEN for name in one.query.model_fields])
def test_the_document_says_which_parameters_are_taken(operation: Operation, name: str) -> None:
    described = DOCUMENT["paths"][operation.path][operation.method]["parameters"]
    (schema,) = [parameter["schema"] for parameter in described if parameter["name"] == name]
    taken, refused = QUERY_VALUES[name]
    for value in (*taken, *refused):
        written: Any = int(value) if schema["type"] == "integer" and value.isdigit() else value
        instance = [written] if schema["type"] == "array" else written
        whole = {**schema, "components": DOCUMENT["components"]}
        assert jsonschema_rs.Draft202012Validator(whole).is_valid(instance) is (value in taken), value
        assert is_taken(operation, name, value) is (value in taken), value


def is_taken(operation: Operation, name: str, value: str) -> bool:
    request = Request({"type": "http", "query_string": urlencode({name: value}).encode()})
    try:
        read_query(operation.query, request)
        if name == "target":
            SETTINGS.target(value)
    except InvalidInput:
        return False
    return True


def test_a_field_is_described_by_what_stands_below_it_in_the_source() -> None:
    described = DOCUMENT["components"]["schemas"]["DecisionForm"]["properties"]
    assert described["deleted_rows"]["description"].startswith("Typed by who approves a plan that deletes rows")


@pytest.mark.parametrize(
    ("changes", "valid"),
    [
        ({}, True),
        ({"target": "crm"}, True),
        ({"target": "elsewhere"}, False),
        ({"body": "x" * 65537}, False),
        ({"title": "a\0b"}, False),
        ({"title": "x" * 501}, False),
        ({"subject": {"order_id": 2**53 - 1, "more": [1.5, None, {"x": "y"}]}}, True),
        ({"subject": {"order_id": 2**53}}, False),
        ({"subject": {"deep": [{"down": -1e300}]}}, False),
        ({"urgent": True}, False),
        ({"undo_of": "ticket/shop/SUP-1"}, False),
        ({"undo_of": None}, False),
        ({"id": "no spaces"}, False),
    ],
)
def test_the_document_says_which_tickets_are_taken(changes: dict[str, Any], *, valid: bool) -> None:
    ticket = {"id": "SUP-1", "body": "please", "requester": "ana@example.com"}
    assert is_valid("NewTicket", ticket | changes) is valid


def test_without_a_default_each_ticket_names_its_target() -> None:
    settings = Settings(targets={"shop": Target(), "crm": Target()})
    schema = document(settings, "any")["components"]["schemas"]["NewTicket"]
    assert "target" in schema["required"]
    assert schema["properties"]["target"]["enum"] == ["crm", "shop"]


# --- the page about it -----------------------------------------------------------------------------------------------

API = (Path(__file__).parents[3] / "docs/api.md").read_text("utf-8")
COMMANDS = [
    command
    for block in re.findall(r"```sh\n(.*?)```", API, re.DOTALL)
    for command in block.replace("\\\n", " ").splitlines()
    if command.startswith("curl")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_example_is_a_request_that_the_document_knows(command: str) -> None:
    words = shlex.split(command)
    (address,) = [word for word in words if word.startswith("$STANDFAST")]
    body = words[words.index("-d") + 1] if "-d" in words else None
    url = urlsplit(address.removeprefix("$STANDFAST"))
    path = re.sub("/ticket/shop/SUP-1042", "/ticket/{target}/{id}", url.path)
    operation = OPERATIONS[f"{'POST' if body or 'POST' in words else 'GET'} {path}"]
    assert "Authorization: Bearer $TOKEN" in words
    assert {name for name, _ in parse_qsl(url.query)} <= {parameter["name"] for parameter in operation["parameters"]}
    assert ("Content-Type: application/json" in words) == (body is not None) == ("requestBody" in operation)
    if body is not None:
        reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        assert is_valid(reference.rpartition("/")[2], json.loads(body))


def test_the_page_has_every_operation_with_its_scope() -> None:
    rows = re.findall(r"^\| `(GET|POST) ([^`]+)` \| `(\w+)` \|", API, re.MULTILINE)
    described = {
        f"{method} {path.replace('{workflow id}', 'ticket/{target}/{id}')}": scope for method, path, scope in rows
    }
    assert described == {name: operation["security"][1]["token"][0] for name, operation in OPERATIONS.items()}


def test_the_page_has_every_status_and_every_reason() -> None:
    statuses = {status for operation in OPERATIONS.values() for status in operation["responses"] if status >= "400"}
    assert statuses <= set(re.findall(r"^\| (\d{3}) \|", API, re.MULTILINE))
    cells = [line.split("|")[1] for line in API[API.index("| reason |") :].splitlines() if line.startswith("|")]
    assert {name for cell in cells for name in re.findall("`([^`]+)`", cell)} == {*Refusal, CONFIRMATION}
