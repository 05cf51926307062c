"""The databases of one process: pools of connections to the targets and to the control database, by role."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from enum import StrEnum
from types import TracebackType
from typing import Self

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from pydantic import SecretStr

from standfast.errors import NotPermitted, ServiceUnavailable, first_line
from standfast.settings import Settings
from standfast.store.connections import (
    CLIENT,
    CONNECT_SECONDS,
    PASSING,
    Connection,
    address,
    migrated,
    open_connection,
    parts_of,
    pin_session,
)

# It warns of each failed attempt. Without a handler Python itself would print that, in the middle of what a command
# says about it; the log of a worker has it all the same.
logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())

POOL_SIZE = 16
"""Connections that one process opens at most, as one role and for one use, such as `target` and its `observer`."""
_OWN = "standfast"
"""The schema that we make in each database."""
_JOURNAL, _PAYLOADS, _CONTROL_AT_ONCE = "journal", "payloads", "control at once"
_AUTOCOMMIT = frozenset({_JOURNAL, _PAYLOADS, _CONTROL_AT_ONCE})
# A workflow task that waits any longer for a payload runs out of time; failed, it can say why.
_PAYLOAD_SECONDS = 1.5

Pool = AsyncConnectionPool[Connection]


class Role(StrEnum):
    """As whom a connection reads or writes a target."""

    READER = "reader"
    REHEARSER = "rehearser"
    WRITER = "writer"


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
        # Only the writer has to do with our ledger. What a plan names is told of by itself, and so is a missing right.
        with migrated(url, rights=False) if role is Role.WRITER else nullcontext():
            async with self._pooled(url, role, self.schemas(name)) as connection:
                yield connection

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
    async def _own(self, secret: SecretStr, use: str, *, seconds: float = CONNECT_SECONDS) -> AsyncIterator[Connection]:
        url = secret.get_secret_value()
        with migrated(url):
            async with self._pooled(url, use, (_OWN,), seconds=seconds) as connection:
                yield connection

    @asynccontextmanager
    async def _pooled(
        self, url: str, use: str, schemas: tuple[str, ...], *, seconds: float = CONNECT_SECONDS
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
        except PASSING as error:
            raise ServiceUnavailable(f"PostgreSQL at {address(url)}: {first_line(error)}") from error

    async def _pool(self, url: str, use: str, schemas: tuple[str, ...]) -> Pool:
        async with self._opening:
            if (url, use) not in self._pools:
                self._pools[url, use] = await self._stack.enter_async_context(self._new_pool(url, use, schemas))
            return self._pools[url, use]

    def _new_pool(self, url: str, use: str, schemas: tuple[str, ...]) -> Pool:
        parts_of(url)
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
            **CLIENT,
        }
        pool: Pool = AsyncConnectionPool(
            url,
            connection_class=Connection,
            kwargs=arguments,
            configure=configure,
            check=check,
            min_size=0,
            max_size=POOL_SIZE,
            timeout=CONNECT_SECONDS,
            # Attempts back off; giving up early means that the next caller starts a fresh one, without their delay.
            reconnect_timeout=CONNECT_SECONDS,
            open=False,
        )
        return pool
