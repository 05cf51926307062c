"""What people were shown before they decided, kept so that an auditor sees the same; the audit chain has the hashes.

All of a ticket's view but its metadata, which is for integrations, may be large, and is on no page.
"""

import hashlib
from datetime import datetime

from standfast.codec.sealing import Seal
from standfast.domain import Record
from standfast.errors import InvalidInput, PayloadLost
from standfast.store.connections import Connection
from standfast.store.sql import statements
from standfast.view import TicketView

_SQL = statements(__package__, "shown.sql")
_NOT_SHOWN = {"ticket": {"metadata"}}


class Shown(Record):
    """One ticket as it was shown."""

    view: TicketView
    first_at: datetime


async def keep(connection: Connection, seal: Seal, view: TicketView, at: datetime) -> str:
    """Keep what somebody is shown, unless the same is kept already, and return its hash."""
    content = view.model_dump_json(exclude=_NOT_SHOWN)
    key = hashlib.sha256(content.encode()).hexdigest()
    if await (await connection.execute(_SQL["known"], {"hash": key})).fetchone() is None:
        sealed = await seal.close(view.workflow_id, content)
        row = {"hash": key, "workflow_id": view.workflow_id, "shown_at": at, "content": sealed}
        await connection.execute(_SQL["keep"], row)
    return key


async def find(connection: Connection, seal: Seal, key: str) -> Shown:
    """Return what has this hash.

    Raises:
        InvalidInput: nothing was shown that has it, or it was purged.
        PayloadLost: what is kept is not what was shown.
        PayloadRefused: it was changed in the database.
        UnknownKey: a key is missing.
    """
    row = await (await connection.execute(_SQL["find"], {"hash": key})).fetchone()
    if row is None:
        raise InvalidInput(f"nothing is kept with the hash {key}: nobody was shown that, or it was purged")
    content = await seal.open(row["workflow_id"], str, row["content"])
    if hashlib.sha256(content.encode()).hexdigest() != key:
        raise PayloadLost(f"what is kept with the hash {key} is not what was shown: it was changed")
    return Shown(view=TicketView.model_validate_json(content), first_at=row["shown_at"])
