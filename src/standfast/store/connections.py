"""One connection to PostgreSQL: how it is opened, pinned and given up. For pools see `standfast.store.databases`."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import generators
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.rows import DictRow, dict_row

from standfast.errors import InvalidInput, NotMigrated, ServiceUnavailable, first_line

Result = TypeVar("Result")

CONNECT_SECONDS = 5.0
_CHECK_SECONDS = 1.0
"""An empty statement is answered at once; a connection on which it isn't is lost."""
_OUTAGE_SECONDS = 10
"""Of the network, until its connections are given up; shorter ones are survived."""
CLIENT: dict[str, Any] = {
    "connect_timeout": int(CONNECT_SECONDS),
    # By default the kernel sends for a quarter of an hour into a network that doesn't answer...
    "tcp_user_timeout": _OUTAGE_SECONDS * 1000,
    # ...and takes two hours to ask whether the other side is still there.
    "keepalives_idle": _OUTAGE_SECONDS // 2,
    "keepalives_interval": _OUTAGE_SECONDS // 5,
}
# Every session is pinned: none of these may come from the role, the database or an earlier user of the connection.
PINNED = {
    "standard_conforming_strings": "on",
    "client_encoding": "UTF8",
    "datestyle": "ISO, MDY",
    "intervalstyle": "iso_8601",
    "timezone": "UTC",
    "row_security": "on",
    "default_transaction_isolation": "read committed",
    "statement_timeout": "15s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "20s",  # longer than any statement on a second connection takes
    # No other time-out ends a statement whose result nobody takes: a frozen worker would keep its locks.
    "tcp_user_timeout": f"{_OUTAGE_SECONDS}s",
}
# The server's trouble, whatever was asked of it: it is away, it only reads now (a standby, or being looked after), or
# it ended the session of a process that was frozen in a transaction.
PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.ReadOnlySqlTransaction,
)
_LACKING = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidSchemaName,
)
_NO_URL = (
    "not a PostgreSQL URL such as postgresql://user:password@host/database; percent-encode / @ % in the password, "
    "as %2F %40 %25"
)
_SAFETY_CRITICAL = ("standard_conforming_strings", "client_encoding", "row_security", "search_path")


class Connection(psycopg.AsyncConnection[DictRow]):
    """A connection that doesn't wait for ever: psycopg would, and TCP may never tell that the other side is gone."""

    answer_seconds = 20.0
    """For one statement. The server itself ends it earlier, so an answer that takes longer can't come any more."""

    opened = 0.0
    """Of one in a pool, in monotonic seconds."""
    observes: bool | None = None
    """Whether its role has an observer, see `standfast.store.observing`; None until somebody has asked."""

    async def wait(self, gen: PQGen[Result], interval: float = 0.1, timeout: float | None = None) -> Result:  # noqa: ASYNC109 - psycopg's name
        """See the base class; without an answer in time the connection is closed, lest a late one be taken for another.

        Raises:
            psycopg.OperationalError: no answer; whether the statement ran is not known.
        """
        seconds = self.answer_seconds if timeout is None else timeout
        try:
            return await super().wait(gen, interval, seconds)
        except psycopg.OperationalError:
            if self.info.transaction_status is not TransactionStatus.ACTIVE:
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {seconds:g} s, the connection was given up") from None

    async def rollback(self) -> None:
        """See the base class, which would forget all prepared statements, lest they name what was rolled back.

        Ours name nothing that a plan creates, and the server plans them anew after a change of what they name.
        """
        if self.info.transaction_status is not TransactionStatus.IDLE:
            await self._command(b"ROLLBACK")

    async def rollback_to(self, savepoint: LiteralString) -> None:
        """Take back what was done since a savepoint; prepared statements stay here, too."""
        await self._command(b"ROLLBACK TO SAVEPOINT " + savepoint.encode())

    async def check(self) -> None:
        """Make sure that the server answers.

        Raises:
            psycopg.OperationalError: it doesn't; the connection is lost.
        """
        await self._command(b"", seconds=_CHECK_SECONDS)

    async def _command(self, command: bytes, *, seconds: float | None = None) -> None:
        async with self.lock:
            self.pgconn.send_query(command)
            for result in await self.wait(generators.execute(self.pgconn), timeout=seconds):
                if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.EMPTY_QUERY):
                    raise error_from_result(result, self.info.encoding)


def address(url: str) -> str:
    """Return host, port and database of a URL, as far as it names them, without credentials, for messages."""
    try:
        parts = parts_of(url)
    except InvalidInput:
        return "(not a PostgreSQL URL)"
    host = parts.get("host") or parts.get("hostaddr") or "the default host"
    port, database = parts.get("port"), parts.get("dbname")
    return f"{host}{f':{port}' if port else ''}{f'/{database}' if database else ''}"


def parts_of(url: str) -> dict[str, Any]:
    """Return what libpq reads in a URL.

    Raises:
        InvalidInput: it is empty, which means whatever server libpq finds, or wrong. libpq's words could quote a
            password.
    """
    if not url.strip():
        raise InvalidInput("the URL of a database is empty; give one such as postgresql://user@host/database")
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise InvalidInput(_NO_URL) from None
    # In `user:pass/word@host/database` the host is `user` to libpq, the port `pass`, and the database all the rest.
    if "@" in f"{parts.get('host')}{parts.get('dbname')}" or not re.fullmatch(r"[\d,]*", str(parts.get("port") or "")):
        raise InvalidInput(_NO_URL)
    return parts


async def pin_session(connection: Connection, schemas: tuple[str, ...], *, read_only: bool = False) -> None:
    """Set the session's settings and read them back.

    Raises:
        ServiceUnavailable: the server kept another value (a connection pooler in between, for instance).
    """
    # The server looks into pg_catalog before all of these, so that nothing of a target's passes for a built-in; and
    # into temporary tables last, so that none passes for a real one.
    path = ", ".join('"' + schema.replace('"', '""') + '"' for schema in (*schemas, "pg_temp"))
    wanted = {**PINNED, "search_path": path}
    if read_only:
        wanted["default_transaction_read_only"] = "on"
    query: LiteralString = (
        "SELECT name, set_config(name, value, false) AS kept FROM unnest(%s::text[], %s::text[]) AS w(name, value)"
    )
    autocommit = connection.autocommit
    await connection.set_autocommit(True)
    cursor = await connection.execute(query, (list(wanted), list(wanted.values())))
    kept = {row["name"]: row["kept"] for row in await cursor.fetchall()}
    await connection.set_autocommit(autocommit)
    for name in _SAFETY_CRITICAL:
        if kept[name].lower() != wanted[name].lower():
            raise ServiceUnavailable(f"the server keeps {name} = {kept[name]!r} and refuses {wanted[name]!r}")


async def open_connection(url: str, *, schemas: tuple[str, ...] = (), application: str = "standfast") -> Connection:
    """Open one connection with pinned session settings; the caller closes it.

    Raises:
        InvalidInput: `url` is empty, or not a PostgreSQL URL.
        ServiceUnavailable: the server can't be reached or refuses us.
    """
    parts_of(url)
    try:
        connection = await Connection.connect(url, row_factory=dict_row, application_name=application, **CLIENT)
    except psycopg.OperationalError as error:
        raise _unreachable(url, error) from error
    try:
        await pin_session(connection, schemas)
    except PASSING as error:
        await connection.close()
        raise _unreachable(url, error) from error
    except BaseException:
        await connection.close()
        raise
    return connection


def _unreachable(url: str, error: Exception) -> ServiceUnavailable:
    return ServiceUnavailable(f"PostgreSQL at {address(url)} can't be reached: {first_line(error)}")


async def open_connections(
    url: str, count: int, *, schemas: tuple[str, ...] = (), application: str = "standfast"
) -> list[Connection]:
    """Open several connections at once, all or none; see `open_connection`."""
    opening = (open_connection(url, schemas=schemas, application=application) for _ in range(count))
    opened = await asyncio.gather(*opening, return_exceptions=True)
    connections = [connection for connection in opened if isinstance(connection, Connection)]
    for error in opened:
        if isinstance(error, BaseException):
            await asyncio.gather(*(connection.close() for connection in connections))
            raise error
    return connections


@contextmanager
def migrated(url: str, *, rights: bool = True) -> Iterator[None]:
    """For statements on our own schema alone: say what to do where it is not as they need it.

    Raises:
        NotMigrated: a table, a column, a function or, if these matter, one of the `rights` is missing.
    """
    lacking = (*_LACKING, psycopg.errors.InsufficientPrivilege) if rights else _LACKING
    try:
        yield
    except lacking as error:
        message = f"PostgreSQL at {address(url)}: {error.diag.message_primary}; run `standfast migrate`"
        raise NotMigrated(message) from error


async def server_time(connection: Connection) -> datetime:
    """Return the time by the server's clock."""
    row = await (await connection.execute("SELECT clock_timestamp() AS now")).fetchone()
    assert row is not None
    now: datetime = row["now"]
    return now
