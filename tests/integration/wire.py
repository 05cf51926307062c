"""A wire to PostgreSQL that a test can cut, message by message: a TCP proxy that understands where a message begins."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_HEADER = 5  # type and length


class Fate(Enum):
    """What becomes of a message and its connection."""

    PASS = auto()
    CUT = auto()
    """The server never sees it."""
    CUT_ANSWER = auto()
    """The server acts on it; the client never hears."""


async def _pass(message: bytes) -> Fate:
    del message
    return Fate.PASS


class Wire:
    """All connections through one proxy; `url` leads through it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.watch: Callable[[bytes], Awaitable[Fate]] = _pass
        """Asked for each message of a client."""
        self._server = conninfo_to_dict(url)
        self._pumps: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Wire"]:
        listener = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        self.url = make_conninfo(self.url, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
        try:
            async with listener:
                yield self
        finally:
            for pump in self._pumps:
                pump.cancel()
            await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(
            str(self._server["host"]), str(self._server["port"])
        )
        deaf = asyncio.Event()
        pumps = {
            asyncio.create_task(self._questions(reader, server_writer, deaf)),
            asyncio.create_task(_answers(server_reader, writer, deaf)),
        }
        self._pumps |= pumps
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            self._pumps -= pumps
            for end in (writer, server_writer):
                end.transport.abort()

    async def _questions(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, deaf: asyncio.Event) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            length = await reader.readexactly(4)
            server.write(length + await reader.readexactly(int.from_bytes(length) - 4))  # the start-up has no type
            while True:
                header = await reader.readexactly(_HEADER)
                message = header + await reader.readexactly(int.from_bytes(header[1:]) - 4)
                fate = await self.watch(message)
                if fate is Fate.CUT:
                    return
                if fate is Fate.CUT_ANSWER:
                    deaf.set()
                server.write(message)
                await server.drain()


async def _answers(server: asyncio.StreamReader, writer: asyncio.StreamWriter, deaf: asyncio.Event) -> None:
    with suppress(OSError):
        while data := await server.read(65536):
            if deaf.is_set():
                return
            writer.write(data)
            await writer.drain()
