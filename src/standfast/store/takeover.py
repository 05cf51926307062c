"""Sessions of work that another worker has taken over: they are ended, so that their locks don't outlive their worker.

A worker that is frozen, or cut off from Temporal, may hold row locks in the middle of a transaction. Whoever gets its
work next would wait for them until the server's time-outs end the session. Instead each such transaction carries the
name of its ticket, and a later attempt ends what carries that name.
"""

import hashlib

from standfast.store.connections import Connection
from standfast.store.names import too_many_bytes
from standfast.store.sql import statements

_SQL = statements(__package__, "takeover.sql")


def session_name(workflow_id: str) -> str:
    """Return the application name for transactions of a ticket; pass it on with `set_config(..., true)`."""
    name = f"standfast {workflow_id}"
    if too_many_bytes(name):
        name = f"standfast {hashlib.sha256(workflow_id.encode()).hexdigest()[:48]}"
    return name


async def take_over(connection: Connection, workflow_id: str) -> None:
    """End the transactions of a ticket that other sessions of the same role have in hand; what they did is undone."""
    await connection.execute(_SQL["take_over"], {"name": session_name(workflow_id)})
