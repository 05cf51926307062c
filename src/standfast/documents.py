"""JSON and YAML from outside: read strictly, refused with source, line, field, value and what was expected."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from itertools import count
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from standfast.errors import InvalidInput

Model = TypeVar("Model", bound=BaseModel)
_DECODER = json.JSONDecoder()  # of what was read strictly before
_SHOWN = 120  # characters of a wrong value that a message quotes
_NAMED = 20  # wrong fields that a message names
_NO_VALUE = (ValueError, LookupError, AttributeError)  # of the YAML reader, for 2026-13-45 or `!!bool x`
_BETWEEN = re.compile(r"[ \t\r\n,:]*")  # what stands between the values of a JSON document, and before its first


def read_json(text: str, *, source: str, first_line: int = 1) -> Any:
    """Return the JSON value that `text` is; duplicate keys, NaN, Infinity and what overflows to it are no JSON here.

    Raises:
        InvalidInput: naming source, line and column.
    """
    if not text.strip():
        raise InvalidInput(f"{source}: is empty; expected JSON")
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise InvalidInput(f"{source}, line {line}, column {error.colno}: not valid JSON: {error.msg}") from None
    except ValueError as error:
        raise InvalidInput(f"{source}, line {first_line}: not valid JSON: {error}") from None
    except RecursionError:
        raise InvalidInput(f"{source}, line {first_line}: not valid JSON: nested too deeply") from None


def read_yaml(text: str, *, source: str) -> Any:
    """Return the value that a YAML text is; a key that occurs twice is no YAML here.

    Raises:
        InvalidInput: naming source and, where it is known, the place.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except RecursionError:
        raise InvalidInput(f"{source}: not valid YAML: nested too deeply") from None
    except (yaml.YAMLError, *_NO_VALUE) as error:
        raise InvalidInput(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None


def read_json_documents(
    text: str, *, source: str, on_invalid: Callable[[InvalidInput], None] | None = None
) -> Iterator[tuple[int, str, Any]]:
    """Yield line, text and value of each document in `text`: one document, an array of them, or one on each line.

    A line that is not JSON goes to `on_invalid`, if given, and the others are read.

    Raises:
        InvalidInput: there is none, or one is not JSON.
    """
    # Not `splitlines`, which also splits at characters that JSON has inside of strings.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise InvalidInput(f"{source}: is empty; expected JSON, or JSON lines")
    if not _is_json(text) and any(_is_json(line) for _, line in lines):
        yield from _each_line(lines, source, on_invalid)
        return
    value = read_json(text, source=source)
    if isinstance(value, list):
        yield from _each_element(text, value)
    else:
        yield 1, text, value


def _each_element(text: str, array: list[Any]) -> Iterator[tuple[int, str, Any]]:
    line, reached = 1, 0
    for (_, begin, end), value in zip(_members(text, _value_at(text, 0)), array, strict=True):
        line += text.count("\n", reached, begin)
        yield line, text[begin:end], value
        reached = begin


def _each_line(
    lines: list[tuple[int, str]], source: str, on_invalid: Callable[[InvalidInput], None] | None
) -> Iterator[tuple[int, str, Any]]:
    for number, line in lines:
        try:
            value = read_json(line, source=source, first_line=number)
        except InvalidInput as error:
            if on_invalid is None:
                raise
            on_invalid(error)
        else:
            yield number, line, value


def validate(model: type[Model], value: Any, *, source: str, line: int | None, text: str) -> Model:
    """Return `value` as a `model`; `line` is where it begins in its source, None if that has no lines.

    Raises:
        InvalidInput: naming source, line, field, value and what was expected, for each wrong field.
    """
    try:
        return model.model_validate_json(json.dumps(value))
    except ValidationError as error:
        errors, members = error.errors(include_url=False), cache(partial(_places, text))
        lines = [None if line is None else _line_of(e["loc"], line, text, members) for e in errors[:_NAMED]]
        problems = [
            f"{source}{'' if at is None else f', line {at}'}: "
            f"field {'.'.join(map(str, e['loc'])) or '(whole)'}: {_expected(e)}{_got(e['type'], e['input'])}"
            for at, e in zip(lines, errors, strict=False)
        ]
        if len(errors) > _NAMED:
            problems.append(f"and {len(errors) - _NAMED} more")
        raise InvalidInput("; ".join(problems)) from None
    except RecursionError:
        raise InvalidInput(f"{source}: nested too deeply") from None


class _Loader(yaml.SafeLoader):
    """Refuses a key that occurs twice: YAML would let the second one win, and drop what the first one protects."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for position, (key, _) in enumerate(node.value):
            if any(earlier.value == key.value for earlier, _ in node.value[:position]):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} occurs twice", key.start_mark
                )
        return super().construct_mapping(node, deep)


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        twice = next(name for name, number in Counter(name for name, _ in pairs).items() if number > 1)
        msg = f"the key {twice!r} occurs twice"
        raise ValueError(msg)
    return result


def _no_constant(name: str) -> NoReturn:
    msg = f"{name} is not a JSON number"
    raise ValueError(msg)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        msg = f"{digits} is larger than any number of 64 bits"
        raise ValueError(msg)
    return number


def _expected(error: ErrorDetails) -> str:
    match error["type"], error.get("ctx", {}):
        case "extra_forbidden", _:
            return "unknown field"
        case "missing", _:
            return "is required"
        case "json_invalid", {"error": str(reason)}:  # Python has read it, with what others would not
            return "nested too deeply" if "recursion" in reason else "contains half a surrogate pair"
        case "too_long", {
            "field_type": "Value",
            "max_length": limit,
        }:  # a text that was checked for its characters, too
            return f"at most {limit} characters are allowed"
        case "too_short", {"field_type": "Value", "min_length": limit}:
            return f"at least {limit} character is required"
    return error["msg"]


def _got(kind: str, value: Any) -> str:
    if kind == "missing":
        return ""
    shown = json.dumps(value, default=str)
    return f", got {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '...'}"


def _line_of(
    location: tuple[int | str, ...], line: int, text: str, members: Callable[[int], Mapping[int | str, int]]
) -> int:
    """Return the line of the field in `text`, which begins on `line`, or else of the innermost value around it."""
    position = _value_at(text, 0)
    for name in location:  # some say how it was read, and stand nowhere
        position = members(position).get(name, position)
    return line + text.count("\n", 0, position)


def _places(text: str, position: int) -> dict[int | str, int]:
    """Return where each member of the object or array at `position` begins."""
    return {member: begin for member, begin, _ in _members(text, position)}


def _members(text: str, position: int) -> Iterator[tuple[int | str, int, int]]:
    """Yield name or number, begin and end of each member of the object or array at `position` of valid JSON."""
    opening, end = text[position], position + 1
    for number in count() if opening in "[{" else ():
        name: int | str = number
        begin = _value_at(text, end)
        if text[begin] in "]}":
            return
        if opening == "{":
            name, end = _DECODER.raw_decode(text, begin)
            begin = _value_at(text, end)
        _, end = _DECODER.raw_decode(text, begin)
        yield name, begin, end


def _value_at(text: str, position: int) -> int:
    """Return where the next value begins, or an object or array ends."""
    between = _BETWEEN.match(text, position)
    return between.end() if between else position
