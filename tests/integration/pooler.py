"""A connection pooler in transaction mode, as small as it can be: all clients share one session of the server."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psycopg
from psycopg.conninfo import make_conninfo

_REPORTED = ("server_version", "client_encoding", "standard_conforming_strings", "DateStyle", "TimeZone")
_IDLE = b"Z\x00\x00\x00\x05I"


@asynccontextmanager
async def pooled(url: str) -> AsyncIterator[str]:
    """Yield a URL that leads through a pooler to the database of `url`, as the role of `url`."""
    with psycopg.connect(url) as session:
        server = await asyncio.open_connection(sock=socket.socket(fileno=os.dup(session.pgconn.socket)))
        greeting = b"R\x00\x00\x00\x08\x00\x00\x00\x00" + b"".join(
            _message(b"S", name.encode() + b"\0" + (session.pgconn.parameter_status(name.encode()) or b"") + b"\0")
            for name in _REPORTED
        )
        greeting += _message(b"K", b"\0" * 8) + _IDLE
        one_at_a_time = asyncio.Lock()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(asyncio.IncompleteReadError, OSError):
                await reader.readexactly(int.from_bytes(await reader.readexactly(4)) - 4)
                writer.write(greeting)
                while (message := await _read(reader))[:1] != b"X":
                    async with one_at_a_time:
                        await _transaction(message, reader, writer, server)
            writer.close()

        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            yield make_conninfo(url, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
        server[1].close()


async def _transaction(
    message: bytes,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    """Give the session to one client until its transaction is over."""
    while True:
        server[1].write(message)
        if message[:1] in b"QS":  # the server answers now, and says at the end whether a transaction is open
            while (answer := await _read(server[0]))[:1] != b"Z":
                writer.write(answer)
            writer.write(answer)
            if answer == _IDLE:
                return
        message = await _read(reader)


def _message(kind: bytes, content: bytes) -> bytes:
    return kind + (len(content) + 4).to_bytes(4) + content


async def _read(reader: asyncio.StreamReader) -> bytes:
    header = await reader.readexactly(5)
    return header + await reader.readexactly(int.from_bytes(header[1:]) - 4)
