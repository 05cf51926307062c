"""One call of the program: what its global options say, and how its commands reach settings and services."""

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from standfast.cli.output import Output
from standfast.errors import InvalidInput

if TYPE_CHECKING:  # costs half a second, which `--help` doesn't have
    from standfast.client import Standfast
    from standfast.settings import Settings

Result = TypeVar("Result")


@dataclass(frozen=True)
class Invocation:
    """The global options."""

    config: Path | None
    output: Output

    def settings(self, *, local: bool = True) -> "Settings":
        """Return the settings; without `local` those of `standfast up` are left out.

        Raises:
            InvalidInput: a file or a value is wrong.
        """
        from standfast.layers import load_settings  # noqa: PLC0415 - see above

        return load_settings(self.config, local=local)

    @asynccontextmanager
    async def client(self) -> AsyncIterator["Standfast"]:
        """A client of the installation that the settings name.

        Raises:
            ServiceUnavailable: Temporal can't be reached.
        """
        from standfast.client import Standfast  # noqa: PLC0415 - see above

        async with Standfast.connect(self.settings()) as client:
            yield client

    def workflow_id(self, ticket: str) -> str:
        """Return the workflow id that `ticket/shop/SUP-1`, `shop/SUP-1` or `SUP-1` stands for.

        Raises:
            UnknownTarget: only the ticket's id was given, and there is no default target.
            InvalidInput: it can't be an id.
        """
        parts = ticket.split("/")
        match parts:
            case ["ticket", target, identifier] if target and identifier:
                return ticket
            case [target, identifier] if target and identifier:
                return f"ticket/{ticket}"
            case [identifier] if identifier:
                return f"ticket/{self.settings().default_target_name()}/{identifier}"
        raise InvalidInput(f"{ticket!r} is no ticket; expected an id such as SUP-1042 or ticket/shop/SUP-1042")


pass_invocation = click.make_pass_decorator(Invocation)


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a command's asynchronous part."""
    return asyncio.run(work)


def read_text(file: str) -> tuple[str, str]:
    """Return the text of a file, `-` being stdin, and how to name it in messages.

    Raises:
        InvalidInput: it can't be read, or is not UTF-8.
    """
    source = "stdin" if file == "-" else file
    if file == "-" and sys.stdin is None:
        raise InvalidInput("stdin: can't be read: it is closed; name a file")
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return content.decode("utf-8-sig"), source
    except OSError as error:
        raise InvalidInput(f"{source}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{source}: is not UTF-8: byte {error.start} is {content[error.start]:#04x}") from None
