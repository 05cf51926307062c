"""What commands print: text for people with nothing hidden in it, or JSON for machines."""

import json
import os
import sys
from datetime import UTC, datetime
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any, TextIO

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from standfast.characters import is_hidden
from standfast.errors import StandfastError

_SHOWN = 100  # characters of a value in a table
_FILE_WIDTH = 200  # characters of a line where there is no terminal to fit
_WHOLE = frozenset({"ticket", "state", "time", "key"})  # columns that are read as one word


class OutputUnwritable(StandfastError):  # noqa: N818 - reads as what it is where it is caught
    """What a command has to say can't be written."""

    code = "output-unwritable"


class OutputUnread(OutputUnwritable):
    """Nobody reads what a command says any more."""

    code = "output-unread"
    exit_code = 141  # as shells say that SIGPIPE ended a program


class _Checked(FileIO):
    """Stdout that raises errors of ours, so that nobody takes them for trouble with another file."""

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            kind = OutputUnread if isinstance(error, BrokenPipeError) else OutputUnwritable
            raise kind(f"the output can't be written: {error.strerror}") from error


def checked_stdout() -> TextIO:
    """Return a stdout that raises OutputUnwritable when it can't be written to, or was closed from the beginning."""
    before = sys.stdout
    if before is None:
        closed = os.open(os.devnull, os.O_RDONLY)  # refuses what is written, as what is closed does
        return TextIOWrapper(BufferedWriter(_Checked(closed, "w")))
    raw = _Checked(before.fileno(), "w", closefd=False)
    return TextIOWrapper(
        BufferedWriter(raw), encoding=before.encoding, errors=before.errors, line_buffering=before.isatty()
    )


class Output:
    """Where a command's results go."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.people = Console(stderr=as_json, markup=False, emoji=False, highlight=False, soft_wrap=True)
        """With `--json` people read on stderr."""
        if not self.people.is_terminal:
            self.people.width = _FILE_WIDTH

    def document(self, value: Any) -> None:
        """Print one JSON document on one line; records become what they are in JSON."""
        sys.stdout.write(json.dumps(value, default=_plain) + "\n")
        sys.stdout.flush()

    def line(self, text: str = "", style: str = "") -> None:
        """Print a line for people. Line breaks in `text` stay; all else that can't be seen is shown by number."""
        self.people.print(Text(visible(text), style=style))

    def table(self, columns: list[str], rows: list[list[Any]]) -> None:
        """Print a table for people."""
        self.people.print(text_table(columns, rows))


def text_table(columns: list[str], rows: list[list[Any]]) -> Table:
    """Return a table of values, in which long ones are cut and hidden characters shown by number."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(visible(column), overflow="fold", no_wrap=column in _WHOLE)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def visible(text: str) -> str:
    r"""Return `text` with every hidden character as its number: others' text must not steer a terminal.

    >>> visible("a\x1b[2Jb")
    'a<U+001B>[2Jb'
    """
    return "".join(f"<U+{ord(c):04X}>" if is_hidden(c) and c not in "\n\t" else c for c in text)


def moment(at: datetime) -> str:
    """Return a time for people, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def _cell(value: Any) -> Text:
    if value is None:
        return Text("")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=_plain)
    text = visible(" ".join(text.split()))
    return Text(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return str(value)
