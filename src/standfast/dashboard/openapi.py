"""The document of the API (OpenAPI 3.1), made of its operations and of the models that they parse and return."""

import ast
import inspect
from collections.abc import Iterator, Mapping
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from itertools import pairwise
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from standfast.dashboard.operations import OPERATIONS, Operation
from standfast.dashboard.problems import Problem
from standfast.domain import MAX_SAFE_INTEGER
from standfast.errors import UnknownTarget
from standfast.settings import Settings
from standfast.ticket import Ticket

_DESCRIPTION = """\
Tickets and decisions as JSON. Every error is a problem (RFC 9457): `detail` is for people, `code` for programs.

What is sent has to be JSON in UTF-8 with `Content-Type: application/json`, at most 1 MiB. A name that is not known, in
a body or in a query, is refused; in an answer, programs should pass over it. A method that a path doesn't know is
answered with 405, and `Allow` names those that it does."""
_ALWAYS = frozenset({400, 401, 403, 421, 503})
_PROBLEMS: Mapping[int, str] = {
    400: "Something that was sent can't be read, or has a name or a value that is not known",
    401: "Neither a session nor a token, or one that has ended",
    403: "Not permitted to this person or token, or sent by the page of another site",
    404: "No such ticket",
    409: "Nothing was changed; `reason` says why a decision was refused",
    410: "A part of the ticket is not kept any more",
    413: "The body is too large",
    415: "The body is not said to be JSON",
    421: "Asked for by a name that is not this server's",
    422: "A part of the ticket was changed where it is stored, so it is not trusted",
    503: "Temporal, the control database or every core worker is away; nothing is lost, try again",
}
_EXACT = {"minimum": -MAX_SAFE_INTEGER, "maximum": MAX_SAFE_INTEGER}
_JSON_VALUE = {
    "description": "Any JSON value. A number beyond 2^53 - 1 is written as a string, since not every reader keeps it.",
    "anyOf": [
        {"type": ["null", "boolean", "string"]},
        {"type": "number", **_EXACT},
        {"type": "array", "items": {"$ref": "#/components/schemas/JsonValue"}},
        {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/JsonValue"}},
    ],
}


def document(settings: Settings, cookie: str) -> dict[str, Any]:
    """Return the document of an installation; `cookie` is the name of the session's cookie."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, settings)
    _, known = _schemas()
    queries = {operation.query.__name__ for operation in OPERATIONS}
    schemas = {name: schema for name, schema in known.items() if name not in queries}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Standfast",
            "version": version("standfast"),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas | {"NewTicket": _new_ticket(schemas["Ticket"], settings)},
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": cookie, "description": "Of who is signed in."},
                "token": {"type": "http", "scheme": "bearer", "description": "With the scope that is named."},
            },
        },
    }


def _operation(operation: Operation, settings: Settings) -> dict[str, Any]:
    problems = {str(status): _problem(status) for status in sorted(_ALWAYS | operation.problems)}
    answers = {str(status): _answer(status, model) for status, model in operation.answers.items()}
    described = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [*_path_parameters(operation.path), *_query_parameters(operation.query, settings)],
        "security": [{"session": []}, {"token": [operation.scope]}],
        "responses": answers | problems,
    }
    if operation.body is None:
        return described
    reference = {"$ref": "#/components/schemas/NewTicket"} if operation.body is Ticket else _reference(operation.body)
    return described | {"requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}}


def _answer(status: int, model: type[BaseModel] | None) -> dict[str, Any]:
    schema = {"type": "object"} if model is None else _reference(model, "serialization")
    answer: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {"application/json": {"schema": schema}},
    }
    if status == HTTPStatus.CREATED:
        address = {"description": "Where the ticket is", "required": True, "schema": {"type": "string"}}
        answer["headers"] = {"Location": address}
    return answer


def _problem(status: int) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": _reference(Problem, "serialization")}}
    return {"description": _PROBLEMS[status], "content": content}


def _path_parameters(path: str) -> Iterator[dict[str, Any]]:
    _, schemas = _schemas()
    for name, schema in schemas["Ticket"]["properties"].items():
        if f"{{{name}}}" in path:
            yield {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(query: type[BaseModel], settings: Settings) -> Iterator[dict[str, Any]]:
    _, schemas = _schemas()
    for name, known in schemas[query.__name__]["properties"].items():
        schema = _without_null({key: value for key, value in known.items() if key != "description"})
        if name == "target":
            known_target = {"enum": sorted(settings.targets)}
            schema = {**schema, "items": known_target} if schema["type"] == "array" else {**schema, **known_target}
        yield {"name": name, "in": "query", "description": known["description"], "schema": schema}


def _without_null(schema: JsonSchemaValue) -> JsonSchemaValue:
    """Return the schema of an optional value: a query leaves out what has none."""
    given = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    return given[0] if given else schema


def _new_ticket(ticket: JsonSchemaValue, settings: Settings) -> JsonSchemaValue:
    """Return the schema of a ticket that is submitted here: its target is one of the settings', and it is no undo."""
    target = {**ticket["properties"]["target"], "enum": sorted(settings.targets)}
    required = ticket["required"]
    try:
        target["default"] = settings.default_target_name()
        required = [name for name in required if name != "target"]
    except UnknownTarget:  # each ticket has to name one
        pass
    properties = {**ticket["properties"], "target": target}
    del properties["undo_of"]
    return {**ticket, "title": "NewTicket", "properties": properties, "required": required}


def _reference(model: type[BaseModel], mode: JsonSchemaMode = "validation") -> JsonSchemaValue:
    references, _ = _schemas()
    return references[model, mode]


@cache
def _schemas() -> tuple[Mapping[Any, JsonSchemaValue], dict[str, JsonSchemaValue]]:
    """Return the references to all models of the API, by model and mode, and the schemas that these lead to."""
    sent = [model for o in OPERATIONS for model in (o.query, o.body) if model is not None]
    answered = [model for o in OPERATIONS for model in o.answers.values() if model is not None]
    keys: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "validation") for model in sent]
    keys += [(model, "serialization") for model in answered]
    keys += [(Problem, "serialization")]
    references, generated = models_json_schema(
        keys, ref_template="#/components/schemas/{model}", schema_generator=_Described
    )
    return references, generated["$defs"] | {"JsonValue": _JSON_VALUE}


class _Described(GenerateJsonSchema):
    """Describes fields with what stands below them in the source."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        described = super().model_schema(schema)
        for name, text in _below_fields(schema["cls"]):
            described["properties"][name]["description"] = text
        return described

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Leave out titles, which would repeat the names."""
        del schema
        return False


def _below_fields(model: type[Any]) -> Iterator[tuple[str, str]]:
    (definition,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(definition, ast.ClassDef)
    for field, below in pairwise(definition.body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, " ".join(text.split())
