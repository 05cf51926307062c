"""A ticket is one request; what is not one is refused with source, line, field and value."""

import json
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_core import to_json

from standfast.carried import Carried, Start
from standfast.errors import InvalidInput, TicketConflict, UnknownTarget
from standfast.outcome import State
from standfast.settings import Settings, Target
from standfast.ticket import MAX_BODY_BYTES, MAX_BYTES, NoTicket, Ticket
from standfast.ticket_files import parse_numbered_tickets, parse_tickets
from standfast.view import TicketView

ONE_TARGET = Settings(targets={"shop": Target()})
TWO_TARGETS = Settings(targets={"shop": Target(), "crm": Target()})


def ticket(**changes: Any) -> dict[str, Any]:
    return {"id": "SUP-1042", "body": "Refund order 1042", "requester": "ana@example.com"} | changes


def test_workflow_id_names_target_and_ticket() -> None:
    (parsed,) = parse_tickets(json.dumps(ticket()), source="t.json", settings=ONE_TARGET)
    assert parsed.workflow_id == "ticket/shop/SUP-1042"


def test_the_single_target_is_the_default() -> None:
    (parsed,) = parse_tickets(json.dumps(ticket()), source="t.json", settings=ONE_TARGET)
    assert parsed.target == "shop"


def test_no_target_is_refused_where_there_are_several() -> None:
    with pytest.raises(UnknownTarget, match=r"t\.json, line 1: .*2 targets and no default_target"):
        parse_tickets(json.dumps(ticket()), source="t.json", settings=TWO_TARGETS)


def test_the_same_ticket_has_the_same_digest_whatever_the_order_of_its_fields() -> None:
    one = ticket(subject={"a": 1, "b": 2})
    other = dict(reversed(ticket(subject={"b": 2, "a": 1}).items()))
    (first,) = parse_tickets(json.dumps(one), source="t", settings=ONE_TARGET)
    (second,) = parse_tickets(json.dumps(other), source="t", settings=ONE_TARGET)
    assert first.digest == second.digest


def test_another_body_is_another_digest() -> None:
    (first,) = parse_tickets(json.dumps(ticket()), source="t", settings=ONE_TARGET)
    (second,) = parse_tickets(json.dumps(ticket(body="x")), source="t", settings=ONE_TARGET)
    assert first.digest != second.digest


def test_an_id_stands_for_one_ticket_only() -> None:
    twice = parse_tickets(json.dumps([ticket(), ticket()]), source="t", settings=ONE_TARGET)
    assert len(twice) == 1
    with pytest.raises(TicketConflict, match="is in this file with other content"):
        parse_tickets(json.dumps([ticket(), ticket(body="x")]), source="t", settings=ONE_TARGET)


def test_invalid_tickets_can_be_left_out() -> None:
    skipped: list[InvalidInput] = []
    text = "\n".join(["{", json.dumps(ticket()), json.dumps(ticket(id="-x"))])
    (kept,) = parse_tickets(text, source="t", settings=ONE_TARGET, on_invalid=skipped.append)
    assert kept.id == ticket()["id"]
    assert [str(error).partition(":")[0] for error in skipped] == ["t, line 1, column 2", "t, line 3"]


def test_an_array_may_have_an_item_on_each_line() -> None:
    text = f"[\n{json.dumps(ticket(id='A'))},\n{json.dumps(ticket(id='B'))}\n]"
    assert [t.id for t in parse_tickets(text, source="t", settings=ONE_TARGET)] == ["A", "B"]


def test_each_wrong_ticket_of_an_array_is_named_with_its_own_line() -> None:
    wrong = [ticket(id="B", priority=7), ticket(id="C", subject={"priority": "body"}, body=3)]
    text = f"\n[{json.dumps(ticket())},\n{json.dumps(wrong[0])},\n{json.dumps(wrong[1], indent=1)}]\n"
    line = 4 + json.dumps(wrong[1], indent=1).partition('"body":')[0].count("\n")
    skipped: list[InvalidInput] = []
    parse_tickets(text, source="t", settings=ONE_TARGET, on_invalid=skipped.append)
    assert [str(error).partition(": ")[0] for error in skipped] == ["t, line 3", f"t, line {line}"]
    assert "field body" in str(skipped[1])


def test_tickets_of_an_array_keep_their_lines() -> None:
    of_four_lines = json.dumps({"id": "B", "body": "", "requester": "ana"}, indent=0).replace("{\n", "{")
    text = f"[\n{json.dumps(ticket(id='A'))},\n\n{of_four_lines}, {json.dumps(ticket(id='C'))}]"
    numbered = parse_numbered_tickets(text, source="t", settings=ONE_TARGET)
    assert [(line, each.id) for line, each in numbered] == [(2, "A"), (4, "B"), (7, "C")]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_json_lines_end_where_json_has_line_ends(separator: str, end: str) -> None:
    bodies = [f"one{separator}two", "three"]
    lines = [json.dumps(ticket(id=f"T-{n}", body=body), ensure_ascii=False) for n, body in enumerate(bodies)]
    assert [t.body for t in parse_tickets(end.join(lines), source="t", settings=ONE_TARGET)] == bodies


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boddy": "x"}, 'field boddy: unknown field, got "x"'),
        ({"id": "-x"}, 'field id: .*pattern.*, got "-x"'),
        ({"id": "x" * 129}, "field id: "),
        ({"body": 3}, "field body: .*valid string, got 3"),
        ({"body": "x" * (MAX_BODY_BYTES + 1)}, "field body: .*65537 bytes, at most 65536"),
        ({"body": "ä" * (MAX_BODY_BYTES // 2 + 1)}, "field body: .*65538 bytes"),
        ({"body": "a\x00b"}, "field body: .*NUL"),
        ({"requester": ""}, "field requester: "),
        ({"subject": {"order_id": 2**53}}, "field subject.order_id: .*write it as a string"),
        ({"target": "Shop"}, "field target: "),
        ({"metadata": {"much": "x" * MAX_BYTES}}, r"field \(whole\): .*at most 33554432 are allowed"),
    ],
)
def test_a_wrong_field_is_named_with_its_value(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=rf"t\.json, line 1: {message}"):
        parse_tickets(json.dumps(ticket(**changes)), source="t.json", settings=ONE_TARGET)


@pytest.mark.parametrize("value", ["ticket/shop/SUP-1", None])
def test_no_file_of_tickets_asks_for_an_undo(value: str | None) -> None:
    lines = "\n".join([json.dumps(ticket()), json.dumps(ticket(id="B") | {"undo_of": value})])
    with pytest.raises(InvalidInput, match=r"t\.jsonl, line 2: field undo_of: .* `standfast undo TICKET` does"):
        parse_tickets(lines, source="t.jsonl", settings=ONE_TARGET)


def test_an_unknown_target_lists_the_known_ones() -> None:
    with pytest.raises(UnknownTarget, match=r"line 1: field target: unknown target 'hr'; the settings name: crm, shop"):
        parse_tickets(json.dumps(ticket(target="hr")), source="t.json", settings=TWO_TARGETS)


def test_json_lines_name_the_line_of_the_wrong_ticket() -> None:
    lines = "\n".join([json.dumps(ticket()), "", json.dumps({"id": "x"})])
    with pytest.raises(InvalidInput, match=r"t\.jsonl, line 3: field body: is required"):
        parse_tickets(lines, source="t.jsonl", settings=ONE_TARGET)


def test_a_field_of_a_document_is_named_with_its_own_line() -> None:
    text = json.dumps(ticket(priority=7), indent=1)
    line = 1 + text[: text.index('"priority"')].count("\n")
    with pytest.raises(InvalidInput, match=rf"t\.json, line {line}: field priority"):
        parse_tickets(text, source="t.json", settings=ONE_TARGET)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("[]", "holds no ticket"),
        ("{", "line 1, column 2: not valid JSON"),
        ('{"id": "a", "id": "b"}', "the key 'id' occurs twice"),
        ('{"id": NaN}', "NaN is not a JSON number"),
        ("[" * 100_000, "not valid JSON"),
        ("3", "should be an object, got 3"),
    ],
)
def test_what_is_no_json_object_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_tickets(text, source="t.json", settings=ONE_TARGET)


def start(document: Any) -> Ticket | Carried | NoTicket:
    return Start.model_validate_json(to_json(document)).root


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"title": "Refund", "priority": "high", "labels": ["a", "b"]},
        {"metadata": {"whole": 1.0, "nested": [{"x": None}]}},
        {"undo_of": "ticket/shop/SUP-1"},
    ],
)
def test_a_workflow_tells_a_ticket_from_what_a_run_has_carried(changes: dict[str, Any]) -> None:
    given = Ticket.model_validate(ticket(target="shop") | changes)
    carried = Carried(view=TicketView(workflow_id="ticket/shop/SUP-1042", ticket=given, state=State.WAITING))
    assert start(given) == given
    assert start(ticket(target="shop") | changes) == given
    assert start(carried) == carried


def test_a_workflow_says_what_is_wrong_with_what_is_no_ticket() -> None:
    wrong = start(ticket(target="shop", body="x" * (MAX_BODY_BYTES + 1)))
    assert isinstance(wrong, NoTicket)
    assert wrong.problem == (
        "not a ticket: field body: Value error, the body has 65537 bytes, at most 65536 are allowed"
    )


def test_what_a_run_has_carried_is_never_taken_for_a_wrong_ticket() -> None:
    with pytest.raises(ValidationError):
        start({"view": {"of": "another release"}})


def test_a_ticket_with_half_a_character_is_refused_wherever_it_is() -> None:
    fields = {"id": "T-1", "body": "please", "requester": "ana@example.com", "target": "shop"}
    with pytest.raises(ValueError, match="lone surrogate"):
        Ticket.model_validate(fields | {"metadata": {"note": ["\ud800"]}})


def test_of_many_wrong_fields_some_are_named_and_the_others_counted() -> None:
    wrong = ",\n".join(f'"unknown{number}": 0' for number in range(50))
    with pytest.raises(InvalidInput) as refused:
        parse_tickets(f"{{{wrong}}}", source="t.json", settings=ONE_TARGET)
    named = str(refused.value).split("; ")
    assert named[3] == "t.json, line 1: field unknown0: unknown field, got 0"
    assert named[19] == "t.json, line 17: field unknown16: unknown field, got 0"
    assert named[20:] == ["and 33 more"]
