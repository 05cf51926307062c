"""Playbooks are prepared plans: files that are read strictly, arguments that are typed, and a plan at the end."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from standfast.errors import InvalidInput
from standfast.local.sample import PLAYBOOKS
from standfast.plan import Operation
from standfast.planner.playbooks import NONE, Playbook, load_playbooks

CREDIT: dict[str, Any] = {
    "name": "credit",
    "description": "Give credit.",
    "arguments": [
        {"name": "customer", "type": "integer", "description": "who", "minimum": 1},
        {"name": "amount", "type": "money", "description": "euros", "minimum": 1, "maximum": 50},
        {"name": "mail", "type": "email", "description": "where to"},
        {"name": "day", "type": "date", "description": "when"},
        {"name": "level", "type": "choice", "description": "how", "choices": ["low", "high"]},
        {"name": "note", "type": "text", "description": "why", "max_length": 5},
    ],
    "statements": [{"sql": "UPDATE c SET a = $2 WHERE id = $1", "params": ["customer", "amount"], "reason": "why"}],
    "examples": [
        {
            "ticket": "Credit 5 to 7.",
            "arguments": {
                "customer": 7,
                "amount": 5,
                "mail": "a@b.example",
                "day": "2026-11-24",
                "level": "low",
                "note": "so",
            },
        }
    ],
}
ARGUMENTS: dict[str, Any] = CREDIT["examples"][0]["arguments"]


def test_a_filled_playbook_is_a_plan() -> None:
    plan = Playbook.model_validate(CREDIT).fill(ARGUMENTS | {"customer": "7", "amount": "12.50"})
    assert plan.summary == "Give credit."
    assert plan.operations == (Operation(sql="UPDATE c SET a = $2 WHERE id = $1", params=(7, "12.50"), reason="why"),)


@pytest.mark.parametrize(
    ("argument", "value", "expected"),
    [
        ("customer", 0, "a whole number from 1"),
        ("customer", 1.5, "a whole number from 1"),
        ("customer", True, "a whole number from 1"),
        ("customer", "7; DROP TABLE c", "a whole number from 1"),
        ("customer", 2**60, "a whole number from 1"),
        ("customer", None, "a whole number from 1"),
        ("amount", 50.01, "an amount with at most two places from 1 to 50"),
        ("amount", "1.001", "an amount with at most two places from 1 to 50"),
        ("amount", "NaN", "an amount with at most two places from 1 to 50"),
        ("mail", "nobody", "a mail address"),
        ("day", "24.11.2026", "a date as YYYY-MM-DD"),
        ("day", "2026-02-30", "a date as YYYY-MM-DD"),
        ("level", "medium", "one of low, high"),
        ("note", "", "a text of at most 5 characters"),
        ("note", "too long", "a text of at most 5 characters"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_expected(argument: str, value: Any, expected: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Playbook.model_validate(CREDIT).fill(ARGUMENTS | {argument: value})
    assert str(caught.value) == f"playbook credit: argument {argument}: expected {expected}, got {value!r}"


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(InvalidInput, match="playbook credit: has no argument colour"):
        Playbook.model_validate(CREDIT).fill(ARGUMENTS | {"colour": "red"})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": "other"}, "name: the playbook is called 'other', expected 'credit'"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"examples": []}, "examples: "),
        ({"arguments": []}, "statements take arguments that the playbook doesn't have: amount, customer"),
        ({"arguments": CREDIT["arguments"] * 2}, "arguments are named twice"),
        (
            {"examples": [{"ticket": "x", "arguments": {}}]},
            "argument customer: expected a whole number from 1, got None",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    (tmp_path / "credit.yaml").write_text(yaml.safe_dump(CREDIT | changes))
    with pytest.raises(InvalidInput) as caught:
        load_playbooks(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'credit.yaml'}: ")
    assert expected in str(caught.value)


def test_a_file_that_is_no_yaml_and_a_folder_that_is_none_are_said_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for text in ("a: [", "a: 0x_", "day: 2026-13-45", "name: a\nname: b", "[" * 5000):
        (tmp_path / "broken.yaml").write_text(text)
        with pytest.raises(InvalidInput, match=r"broken\.yaml: not valid YAML: "):
            load_playbooks(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=rf"{tmp_path}/missing is no folder"):
        load_playbooks(Path("missing"))


def test_the_sample_shop_s_playbooks_use_every_argument_and_know_when_to_say_no() -> None:
    playbooks = load_playbooks(PLAYBOOKS)
    assert NONE in {playbook.name for playbook in playbooks}
    for playbook in playbooks:
        used = {name for statement in playbook.statements for name in statement.params}
        assert used == {argument.name for argument in playbook.arguments}, playbook.name
        for example in playbook.examples:
            said = "".join(example.ticket.split()).lower()
            for value in example.arguments.values():
                assert "".join(str(value).split()).lower() in said, f"{playbook.name}: {example.ticket}"
