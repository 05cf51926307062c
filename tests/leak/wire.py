"""What goes over the wire to Temporal, recorded by a proxy and made readable: HTTP/2, its headers, gRPC's messages."""

import asyncio
import zlib
from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import hpack

from tests.integration.proxy import Line, Proxy
from tests.leak.search import Source

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _CONTINUATION = 0, 1, 9
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20
_GZIP = 16 + zlib.MAX_WBITS


class Recorder(Proxy):
    """A proxy that writes down what both sides say, one file for each side of a connection."""

    def __init__(self, host: str, port: int, folder: Path) -> None:
        super().__init__(host, port)
        self.folder = folder
        self._numbers = count(1)
        self._files: dict[Line, Path] = {}

    async def questions(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, line: Line) -> None:
        """Pass on what the client says."""
        await _record(reader, server, self._file(line).with_suffix(".client"))

    async def answers(self, server: asyncio.StreamReader, client: asyncio.StreamWriter, line: Line) -> None:
        """Pass on what the server says."""
        await _record(server, client, self._file(line).with_suffix(".server"))

    def _file(self, line: Line) -> Path:
        return self._files.setdefault(line, self.folder / f"{next(self._numbers):04d}")


async def _record(source: asyncio.StreamReader, sink: asyncio.StreamWriter, file: Path) -> None:
    with file.open("ab") as record:
        while data := await source.read(65536):
            record.write(data)
            sink.write(data)
            await sink.drain()


def said(folder: Path) -> Iterator[Source]:
    """Yield what was recorded: as it was on the wire, then in words."""
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        yield Source(f"wire {file.name}", data)
        yield Source(f"wire {file.name}, in words", b"\n".join(words(data)))


def words(data: bytes) -> Iterator[bytes]:
    """Yield the headers and the uncompressed messages of one side of an HTTP/2 connection.

    Raises:
        ValueError: it is no HTTP/2.
    """
    bodies: defaultdict[int, bytearray] = defaultdict(bytearray)
    block = bytearray()
    headers = hpack.Decoder()
    for kind, flags, stream, payload in _frames(data):
        if kind == _DATA:
            bodies[stream] += _unpadded(payload, flags)
        elif kind in (_HEADERS, _CONTINUATION):
            block += _unpadded(payload, flags)[5 * bool(kind == _HEADERS and flags & _PRIORITY) :]
            if flags & _END_HEADERS:
                yield from (
                    b"%b: %b" % (bytes(name), bytes(value)) for name, value in headers.decode(bytes(block), raw=True)
                )
                block.clear()
    for body in bodies.values():
        yield from _messages(bytes(body))


def _frames(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    at = len(_PREFACE) if data.startswith(_PREFACE) else 0
    while at + 9 <= len(data):
        length, kind, flags = int.from_bytes(data[at : at + 3]), data[at + 3], data[at + 4]
        stream = int.from_bytes(data[at + 5 : at + 9]) & 0x7FFFFFFF
        if kind > _CONTINUATION:
            msg = f"frame of unknown type {kind} at byte {at}"
            raise ValueError(msg)
        yield kind, flags, stream, data[at + 9 : at + 9 + length]
        at += 9 + length


def _unpadded(payload: bytes, flags: int) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & _PADDED else payload


def _messages(body: bytes) -> Iterator[bytes]:
    """Yield gRPC's messages; the last one may be cut off."""
    at = 0
    while at + 5 <= len(body):
        compressed, length = body[at], int.from_bytes(body[at + 1 : at + 5])
        message = body[at + 5 : at + 5 + length]
        yield zlib.decompressobj(_GZIP).decompress(message) if compressed else message
        at += 5 + length
