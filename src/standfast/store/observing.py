"""Looking at whole rows, in a session whose own statements may not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from standfast.store.connections import Connection
from standfast.store.sql import statements

_SQL = statements(__package__, "observing.sql")


async def become_observer(connection: Connection) -> bool:
    """Give the session the rights of its observer until the transaction ends; False if its role has none.

    Roles that `standfast migrate` didn't make have none: they look at rows with the rights that they have. They are
    asked once a session.
    """
    if connection.observes is not False:
        cursor = await connection.execute(_SQL["become_observer"], prepare=True)
        connection.observes = await cursor.fetchone() is not None
    return connection.observes


@asynccontextmanager
async def observing(connection: Connection) -> AsyncIterator[None]:
    """Let the session look at whole rows inside of the block. After an error the transaction's end takes it back."""
    observes = await become_observer(connection)
    yield
    if observes:
        await connection.execute(_SQL["be_oneself"], prepare=True)
