"""A wire to PostgreSQL that a test can cut, message by message: a TCP proxy that understands where a message begins."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.integration.proxy import Line, Proxy


class Fate(Enum):
    """What becomes of a message and its connection."""

    PASS = auto()
    CUT = auto()
    """The server never sees it."""
    CUT_ANSWER = auto()
    """The server acts on it; the client never hears."""
    VANISH = auto()
    """The server never sees it, nor anything after it; nobody is told."""
    VANISH_ANSWER = auto()
    """The server acts on it; nothing else gets through any more, and nobody is told."""


async def _pass(message: bytes) -> Fate:
    del message
    return Fate.PASS


class Wire(Proxy):
    """All connections through one proxy; `url` leads through it."""

    def __init__(self, url: str) -> None:
        server = conninfo_to_dict(url)
        super().__init__(str(server["host"]), int(server["port"] or 5432))
        self.url = url
        self.watch: Callable[[bytes], Awaitable[Fate]] = _pass
        """Asked for each message of a client."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        async with super().open():
            self.url = make_conninfo(
                self.url, host="127.0.0.1", port=self.port, sslmode="disable", gssencmode="disable"
            )
            yield self

    async def questions(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, line: Line) -> None:
        """Ask `watch` about each message, and pass it on or not."""
        with suppress(asyncio.IncompleteReadError, OSError):
            server.write(await _message(reader, b""))  # the first one has no type
            while True:
                message = await _message(reader, await reader.readexactly(1))
                async with line.considered:
                    fate = await self.watch(message)
                if fate is Fate.CUT:
                    return
                line.ends = fate is Fate.CUT_ANSWER
                line.dead = line.dead or fate is Fate.VANISH
                if not line.dead:
                    server.write(message)
                line.dead = line.dead or fate is Fate.VANISH_ANSWER
                await server.drain()

    async def answers(self, server: asyncio.StreamReader, client: asyncio.StreamWriter, line: Line) -> None:
        """Pass on what the server says; a client that stands still doesn't notice the end of its session either."""
        await super().answers(server, client, line)
        async with line.considered:
            pass


async def _message(reader: asyncio.StreamReader, kind: bytes) -> bytes:
    length = await reader.readexactly(4)
    return kind + length + await reader.readexactly(int.from_bytes(length) - 4)
