"""The search for planted secrets, in whatever form they may have leaked, and wherever."""

import base64
import re
import secrets
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

_COMPRESSED = re.compile(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]")  # how streams of gzip and zlib begin
_LARGEST = 256 * 2**20  # bytes of one uncompressed stream
_WINDOW = 32 + zlib.MAX_WBITS  # either kind of stream
_NESTED = 2  # how deep streams are looked for in streams


@dataclass(frozen=True)
class Marker:
    """What all secrets of a run begin with, and nothing else contains."""

    text: str = field(default_factory=lambda: f"planted{secrets.token_hex(10)}")

    def secret(self, what: str) -> str:
        """Return a secret to plant."""
        return f"{self.text}-{what}"

    @property
    def forms(self) -> dict[str, bytes]:
        """Its name -> the bytes of each form that it may have. JSON, HTML and URLs leave its characters as they are."""
        raw = self.text.encode()
        forms = {"plain": raw, "UTF-16": self.text.encode("utf-16-le"), "hexadecimal": raw.hex().encode()}
        forms["UTF-16, big-endian"] = self.text.encode("utf-16-be")
        forms["hexadecimal, upper case"] = raw.hex().upper().encode()
        for shift in range(3):
            # What stands before and behind has a part in the first and the last characters of a group of three bytes.
            whole = base64.b64encode(b"\0" * shift + raw)
            forms[f"base64, shifted by {shift}"] = whole[(0, 2, 3)[shift] : len(whole) // 4 * 4 - 4]
        return forms


@dataclass(frozen=True)
class Source:
    """Something to search."""

    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Leak:
    """Where a secret was found, in which form, and what stands around it."""

    where: str
    form: str
    around: bytes


def leaks(marker: Marker, sources: Iterable[Source]) -> list[Leak]:
    """Return every place where a secret is, one for each form."""
    return [leak for source in sources for leak in _found(marker, source, _NESTED)]


def _found(marker: Marker, source: Source, depth: int) -> Iterator[Leak]:
    for form, needle in marker.forms.items():
        at = source.data.find(needle)
        if at >= 0:
            yield Leak(source.name, form, source.data[max(0, at - 40) : at + len(needle) + 40])
    if depth:
        for number, stream in enumerate(_uncompressed(source.data)):
            yield from _found(marker, Source(f"{source.name}, compressed stream {number}", stream), depth - 1)


def _uncompressed(data: bytes) -> Iterator[bytes]:
    """Yield what can be uncompressed, as far as it can."""
    for beginning in _COMPRESSED.finditer(data):
        stream = zlib.decompressobj(_WINDOW)
        found = bytearray()
        try:
            # In pieces: what stands before an error counts.
            for first in range(beginning.start(), len(data), 1024):
                found += stream.decompress(data[first : first + 1024], _LARGEST)
                if stream.eof or len(found) > _LARGEST:
                    break
        except zlib.error:
            pass
        if len(found) > len("planted"):
            yield bytes(found)


def files(folder: Path) -> Iterator[Source]:
    """Yield every file below a folder, as it is on disk."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield Source(str(path.relative_to(folder)), path.read_bytes())


def sqlite(file: Path) -> Iterator[Source]:
    """Yield every table of an SQLite database whole: on disk a value may be spread over pages."""
    with sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True) as connection:
        connection.text_factory = bytes
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (name,) in tables:
            rows = connection.execute(f'SELECT * FROM "{name.decode()}"')  # noqa: S608 - a name of the file's own
            cells = (cell for row in rows for cell in row if isinstance(cell, bytes))
            yield Source(f"{file.name}, table {name.decode()}", b"\0".join(cells))
    connection.close()


def postgres(url: str) -> Iterator[Source]:
    """Yield every table of a database whole, in PostgreSQL's binary form."""
    listed = (
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2"
    )
    with psycopg.connect(url) as connection:
        for schema, name in connection.execute(listed).fetchall():
            copy = sql.SQL("COPY {} TO STDOUT (FORMAT binary)").format(sql.Identifier(schema, name))
            with connection.cursor().copy(copy) as rows:
                yield Source(f"{schema}.{name}", b"".join(map(bytes, rows)))
