"""The one place that opens PostgreSQL connections."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import datetime
from enum import StrEnum
from types import TracebackType
from typing import Any, LiteralString, Self, TypeVar

import psycopg
from psycopg import generators
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from pydantic import SecretStr

from standfast.errors import InvalidInput, NotMigrated, NotPermitted, ServiceUnavailable
from standfast.settings import Settings

Result = TypeVar("Result")

# It warns of each failed attempt. Without a handler Python itself would print that, in the middle of what a command
# says about it; the log of a worker has it all the same.
logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())

POOL_SIZE = 16
"""Connections that one process opens at most, as one role and for one use, such as `target` and its `observer`."""
_CONNECT_SECONDS = 5.0
_CHECK_SECONDS = 1.0
"""An empty statement is answered at once; a connection on which it isn't is lost."""
_OUTAGE_SECONDS = 10
"""Of the network, until its connections are given up; shorter ones are survived."""
_CLIENT: dict[str, Any] = {
    "connect_timeout": int(_CONNECT_SECONDS),
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
_PASSING = (
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
_OWN = "standfast"
"""The schema that we make in each database."""
_JOURNAL, _PAYLOADS, _CONTROL_AT_ONCE = "journal", "payloads", "control at once"
_AUTOCOMMIT = frozenset({_JOURNAL, _PAYLOADS, _CONTROL_AT_ONCE})
# A workflow task that waits any longer for a payload runs out of time; failed, it can say why.
_PAYLOAD_SECONDS = 1.5
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


Pool = AsyncConnectionPool[Connection]


class Role(StrEnum):
    """As whom a connection reads or writes a target."""

    READER = "reader"
    REHEARSER = "rehearser"
    WRITER = "writer"


def address(url: str) -> str:
    """Return host, port and database of a URL, as far as it names them, without credentials, for messages."""
    try:
        parts = _parts(url)
    except InvalidInput:
        return "(not a PostgreSQL URL)"
    host = parts.get("host") or parts.get("hostaddr") or "the default host"
    port, database = parts.get("port"), parts.get("dbname")
    return f"{host}{f':{port}' if port else ''}{f'/{database}' if database else ''}"


def _parts(url: str) -> dict[str, Any]:
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
    _parts(url)
    try:
        connection = await Connection.connect(url, row_factory=dict_row, application_name=application, **_CLIENT)
    except psycopg.OperationalError as error:
        raise _unreachable(url, error) from error
    try:
        await pin_session(connection, schemas)
    except _PASSING as error:
        await connection.close()
        raise _unreachable(url, error) from error
    except BaseException:
        await connection.close()
        raise
    return connection


def _unreachable(url: str, error: Exception) -> ServiceUnavailable:
    return ServiceUnavailable(f"PostgreSQL at {address(url)} can't be reached: {_first_line(error)}")


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
def migrated(url: str) -> Iterator[None]:
    """For statements on our own schema alone: say what to do where it is not as they need it.

    Raises:
        NotMigrated: a table, a column, a function or a right is missing.
    """
    try:
        yield
    except (*_LACKING, psycopg.errors.InsufficientPrivilege) as error:
        raise _not_migrated(url, error) from error


def _not_migrated(url: str, error: psycopg.Error) -> NotMigrated:
    return NotMigrated(f"PostgreSQL at {address(url)}: {error.diag.message_primary}; run `standfast migrate`")


async def server_time(connection: Connection) -> datetime:
    """Return the time by the server's clock."""
    row = await (await connection.execute("SELECT clock_timestamp() AS now")).fetchone()
    assert row is not None
    now: datetime = row["now"]
    return now


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class Databases:
    """Pooled connections to the targets and the control database, by role, for one process."""

    def __init__(self, settings: Settings, *, application: str) -> None:
        self._settings = settings
        self._application = application
        self._pools: dict[tuple[str, str], Pool] = {}
        self._opening = asyncio.Lock()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def schemas(self, name: str) -> tuple[str, ...]:
        """Return the schemas of target `name`.

        Raises:
            UnknownTarget: no such target in the settings.
        """
        return self._settings.target(name).schemas

    @asynccontextmanager
    async def target(self, name: str, role: Role) -> AsyncIterator[Connection]:
        """A connection to target `name` as `role`; commits at the end of the block, rolls back on an error.

        Raises:
            UnknownTarget: no such target in the settings.
            NotPermitted: this process was not given the role's URL.
            NotMigrated: the writer finds no ledger there.
            ServiceUnavailable: the server can't be reached or was lost.
        """
        url = self._url(name, role)
        try:
            async with self._pooled(url, role, self.schemas(name)) as connection:
                yield connection
        except _LACKING as error:
            if role is not Role.WRITER:  # only the ledger is ours, and what a plan names is told of by itself
                raise
            raise _not_migrated(url, error) from error

    @asynccontextmanager
    async def observer(self, name: str, role: Role) -> AsyncIterator[Connection]:
        """A second connection beside one from `target`, to look at what that one changes; same rules.

        Observers have a pool of their own: who holds the first connection never waits for the second in vain.
        """
        async with self._pooled(self._url(name, role), f"{role} observer", self.schemas(name)) as connection:
            yield connection

    @asynccontextmanager
    async def control(self, *, autocommit: bool = False) -> AsyncIterator[Connection]:
        """A connection to the control database; same rules as `target`.

        With `autocommit` each statement is a transaction of its own: one round trip, and nothing is held in between.
        """
        secret = self._settings.control.url
        if secret is None:
            raise NotPermitted("this process has no URL of the control database; set control.url")
        use = _CONTROL_AT_ONCE if autocommit else "control"
        async with self._own(secret, use) as connection:
            yield connection

    @asynccontextmanager
    async def journal(self) -> AsyncIterator[Connection]:
        """A connection to the control database that may record model calls; same rules as `target`.

        But each statement is a transaction of its own: whoever freezes after an answer was sent has recorded it.
        """
        secret = self._settings.control.journal or self._settings.control.url
        if secret is None:
            raise NotPermitted("this process has no URL of the journal of model calls; set control.journal")
        async with self._own(secret, _JOURNAL) as connection:
            yield connection

    @asynccontextmanager
    async def payloads(self) -> AsyncIterator[Connection]:
        """A connection to the control database that may add and read payloads; same rules as `journal`."""
        secret = self._settings.storage.url or self._settings.control.url
        if secret is None:
            raise NotPermitted("this process has no URL of the storage for large payloads; set storage.url")
        async with self._own(secret, _PAYLOADS, seconds=_PAYLOAD_SECONDS) as connection:
            yield connection

    def _url(self, name: str, role: Role) -> str:
        target = self._settings.target(name)
        secret = getattr(target, role.value) or (target.writer if role is Role.REHEARSER else None)
        if secret is None:
            raise NotPermitted(f"this process has no {role} URL for target {name!r}; set targets.{name}.{role}")
        url: str = secret.get_secret_value()
        return url

    @asynccontextmanager
    async def _own(
        self, secret: SecretStr, use: str, *, seconds: float = _CONNECT_SECONDS
    ) -> AsyncIterator[Connection]:
        url = secret.get_secret_value()
        with migrated(url):
            async with self._pooled(url, use, (_OWN,), seconds=seconds) as connection:
                yield connection

    @asynccontextmanager
    async def _pooled(
        self, url: str, use: str, schemas: tuple[str, ...], *, seconds: float = _CONNECT_SECONDS
    ) -> AsyncIterator[Connection]:
        pool = await self._pool(url, use, schemas)
        try:
            async with pool.connection(timeout=seconds) as connection:
                yield connection
        except PoolTimeout as error:
            # The pool only knows that it took too long: a connection of its own tells why.
            async with await open_connection(url, schemas=schemas, application=f"{self._application} {use}"):
                message = f"PostgreSQL at {address(url)}: all connections were in use for {seconds:g} s"
            raise ServiceUnavailable(message) from error
        except _PASSING as error:
            raise ServiceUnavailable(f"PostgreSQL at {address(url)}: {_first_line(error)}") from error

    async def _pool(self, url: str, use: str, schemas: tuple[str, ...]) -> Pool:
        async with self._opening:
            if (url, use) not in self._pools:
                self._pools[url, use] = await self._stack.enter_async_context(self._new_pool(url, use, schemas))
            return self._pools[url, use]

    def _new_pool(self, url: str, use: str, schemas: tuple[str, ...]) -> Pool:
        _parts(url)
        drained = 0.0

        async def configure(connection: Connection) -> None:
            connection.opened = time.monotonic()
            await pin_session(connection, schemas, read_only=use == Role.READER)

        async def check(connection: Connection) -> None:
            """Where one connection is lost, the idle ones beside it are, too; the pool would find out one by one."""
            nonlocal drained
            try:
                await connection.check()
            except psycopg.OperationalError:
                if connection.opened > drained:
                    drained = time.monotonic()
                    await pool.drain()
                raise

        arguments = {
            "row_factory": dict_row,
            "application_name": f"{self._application} {use}",
            "autocommit": use in _AUTOCOMMIT,
            **_CLIENT,
        }
        pool: Pool = AsyncConnectionPool(
            url,
            connection_class=Connection,
            kwargs=arguments,
            configure=configure,
            check=check,
            min_size=0,
            max_size=POOL_SIZE,
            timeout=_CONNECT_SECONDS,
            # Attempts back off; giving up early means that the next caller starts a fresh one, without their delay.
            reconnect_timeout=_CONNECT_SECONDS,
            open=False,
        )
        return pool
