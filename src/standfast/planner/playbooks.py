"""Playbooks: prepared plans with typed arguments, in files. Large models may choose one, the small one always does."""

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, JsonValue, StringConstraints, ValidationError, model_validator

from standfast.documents import read_yaml
from standfast.domain import MAX_SAFE_INTEGER, ExactJson, Submission
from standfast.errors import InvalidInput
from standfast.plan import Operation, Plan

NONE = "none"
"""Choice of an agent that finds no playbook fitting."""

_MAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class ArgumentType(StrEnum):
    """What an argument may be."""

    INTEGER = "integer"
    MONEY = "money"
    """A decimal number with at most two places, as text."""
    TEXT = "text"
    EMAIL = "email"
    DATE = "date"
    CHOICE = "choice"


class Argument(Submission):
    """One argument of a playbook."""

    name: Name
    type: ArgumentType
    description: str
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    max_length: Annotated[int, Field(ge=1)] = 200
    """Of texts."""
    choices: tuple[str, ...] = ()

    def accept(self, value: JsonValue) -> ExactJson:
        """Return the parameter that `value` becomes.

        Raises:
            ValueError: it is not what the argument may be; the message says what was expected.
        """
        match self.type:
            case ArgumentType.INTEGER:
                return int(self._number(value, whole=True))
            case ArgumentType.MONEY:
                return str(self._number(value, whole=False))
            case ArgumentType.CHOICE:
                return self._text(value, value in self.choices, f"one of {', '.join(self.choices)}")
            case ArgumentType.EMAIL:
                fits = isinstance(value, str) and _MAIL.fullmatch(value) is not None
                return self._text(value, fits, "a mail address")
            case ArgumentType.DATE:
                return self._text(value, _is_date(value), "a date as YYYY-MM-DD")
            case ArgumentType.TEXT:
                fits = isinstance(value, str) and 0 < len(value) <= self.max_length
                return self._text(value, fits, f"a text of at most {self.max_length} characters")

    def _number(self, value: JsonValue, *, whole: bool) -> Decimal:
        expected = "a whole number" if whole else "an amount with at most two places"
        expected += f" from {self.minimum}" if self.minimum is not None else ""
        expected += f" to {self.maximum}" if self.maximum is not None else ""
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(expected)  # noqa: TRY004 - a wrong value, whatever its type
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            raise ValueError(expected) from None
        step = Decimal(1) if whole else Decimal("0.01")
        fits = (
            number.is_finite()
            and abs(number) <= MAX_SAFE_INTEGER
            and number % step == 0
            and (self.minimum is None or number >= self.minimum)
            and (self.maximum is None or number <= self.maximum)
        )
        if not fits:
            raise ValueError(expected)
        return number

    def _text(self, value: JsonValue, fits: bool, expected: str) -> str:
        if not fits or not isinstance(value, str):
            raise ValueError(expected)
        return value


class Statement(Submission):
    """One statement of a playbook."""

    sql: str
    """Byte for byte what runs; its constants count as grounded."""
    params: tuple[Name, ...] = ()
    """The argument that each of `$1..$n` takes."""
    reason: str
    expect_rows: Annotated[int, Field(ge=0)] | None = None


class Example(Submission):
    """A ticket that this playbook is for, to learn from."""

    ticket: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)


class Playbook(Submission):
    """A prepared plan."""

    name: Name
    description: str
    arguments: tuple[Argument, ...] = ()
    statements: tuple[Statement, ...] = ()
    """None for a playbook that only answers: nothing in the database changes."""
    examples: Annotated[tuple[Example, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _whole(self) -> "Playbook":
        names = [argument.name for argument in self.arguments]
        if len(set(names)) < len(names):
            msg = f"arguments are named twice: {', '.join(names)}"
            raise ValueError(msg)
        used = {name for statement in self.statements for name in statement.params}
        if unknown := used - set(names):
            msg = f"statements take arguments that the playbook doesn't have: {', '.join(sorted(unknown))}"
            raise ValueError(msg)
        for example in self.examples:
            self._accept(example.arguments)
        return self

    def fill(self, arguments: Mapping[str, JsonValue]) -> Plan:
        """Return the plan that the playbook makes of its arguments.

        Raises:
            InvalidInput: naming playbook, argument, value and what was expected.
        """
        try:
            accepted = self._accept(arguments)
        except ValueError as error:
            raise InvalidInput(f"playbook {self.name}: {error}") from None
        operations = tuple(
            Operation(
                sql=statement.sql,
                params=tuple(accepted[name] for name in statement.params),
                reason=statement.reason,
                expect_rows=statement.expect_rows,
            )
            for statement in self.statements
        )
        return Plan(summary=self.description, operations=operations)

    def _accept(self, arguments: Mapping[str, JsonValue]) -> dict[str, Any]:
        if unknown := set(arguments) - {argument.name for argument in self.arguments}:
            msg = f"has no argument {', '.join(sorted(unknown))}"
            raise ValueError(msg)
        accepted = {}
        for argument in self.arguments:
            value = arguments.get(argument.name)
            try:
                accepted[argument.name] = argument.accept(value)
            except ValueError as error:
                msg = f"argument {argument.name}: expected {error}, got {value!r:.120}"
                raise ValueError(msg) from None
        return accepted


class PlaybookChoice(Submission):
    """An agent's choice of a playbook."""

    playbook: str
    """Its name, or `none` if no playbook does what the ticket asks for."""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)


def load_playbooks(folder: Path) -> tuple[Playbook, ...]:
    """Return the playbooks in a folder, one in each file `*.yaml`, by name.

    Raises:
        InvalidInput: naming file, field, value and what was expected.
    """
    if not folder.is_dir():
        raise InvalidInput(f"planner.playbooks: {folder.absolute()} is no folder")
    return tuple(_load(file) for file in sorted(folder.glob("*.yaml")))


def _load(file: Path) -> Playbook:
    try:
        document = read_yaml(file.read_text("utf-8"), source=str(file))
        playbook = Playbook.model_validate(document)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file}: can't be read: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or '(whole)'}: {e['msg']}" for e in error.errors()]
        raise InvalidInput(f"{file}: {'; '.join(problems)}") from None
    if playbook.name != file.stem:
        raise InvalidInput(f"{file}: name: the playbook is called {playbook.name!r}, expected {file.stem!r}")
    return playbook


def _is_date(value: JsonValue) -> bool:
    try:
        return isinstance(value, str) and date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False
