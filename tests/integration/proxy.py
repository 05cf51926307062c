"""A TCP proxy in front of a server, which a test can turn into a network that fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self


class Line:
    """One connection through a proxy."""

    def __init__(self) -> None:
        self.dead = False
        """Its bytes vanish, and nobody is told. A stream that lost bytes never comes back to life."""
        self.ends = False
        """It breaks before the next answer."""
        self.considered = asyncio.Lock()
        """Held while a test holds back a message: to its client, which stands still, nothing happens meanwhile."""


class Proxy:
    """All connections to one server that go through `address`."""

    def __init__(self, host: str, port: int) -> None:
        self.address = ""
        """Host and port, once it is open."""
        self.port = 0
        self._server = host, port
        self._black_hole = False
        self._refusing = False
        self._lines: dict[asyncio.Task[None], Line] = {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        listener = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        try:
            yield self
        finally:
            listener.close()
            await self.cut()

    async def cut(self) -> None:
        """Break all connections that are open."""
        lines = list(self._lines)
        for task in lines:
            task.cancel()
        await asyncio.gather(*lines, return_exceptions=True)

    def swallow(self) -> None:
        """Let the bytes of all connections vanish, open ones and new ones, with nobody being told."""
        self._black_hole = True
        for line in self._lines.values():
            line.dead = True

    async def given_up(self) -> None:
        """Wait until the clients have closed all connections that are open now."""
        lines = list(self._lines)
        if lines:
            await asyncio.wait(lines)

    def refuse(self) -> None:
        """Break new connections at once, as if nobody listened."""
        self._refusing = True

    def heal(self) -> None:
        """Pass on the bytes of new connections; those of the others are lost."""
        self._black_hole = self._refusing = False

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        line = self._lines[task] = Line()
        line.dead = self._black_hole
        ends = [writer]
        try:
            if self._refusing:
                return
            server_reader, server_writer = await asyncio.open_connection(*self._server)
            ends.append(server_writer)
            pumps = [self.questions(reader, server_writer, line), self.answers(server_reader, writer, line)]
            await _first_of(*map(asyncio.create_task, pumps))
        except (OSError, asyncio.CancelledError):
            pass  # the server is away, or the wire was cut
        finally:
            for end in ends:
                end.transport.abort()
            del self._lines[task]

    async def questions(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, line: Line) -> None:
        """Pass on what the client says."""
        await _pump(reader, server, line)

    async def answers(self, server: asyncio.StreamReader, client: asyncio.StreamWriter, line: Line) -> None:
        """Pass on what the server says."""
        await _pump(server, client, line)


async def _first_of(*pumps: asyncio.Task[None]) -> None:
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, line: Line) -> None:
    with suppress(OSError):
        while (data := await source.read(65536)) and not line.ends:
            if not line.dead:
                sink.write(data)
                await sink.drain()
