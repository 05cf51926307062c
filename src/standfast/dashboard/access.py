"""Access on the audit chain: who signed in and out, who was turned away, and which tokens there are."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from standfast import audit
from standfast.domain import digest
from standfast.scope import Scope
from standfast.store.connections import Connection
from standfast.store.databases import Databases


async def record(
    connection: Connection, kind: audit.Kind, *, about: str, actor: str, key: str = "", **content: Any
) -> None:
    """Append what happened to `about` (`sessions/7`, `tokens/ci`); it happens to each once, unless `key` says else.

    Raises:
        ServiceUnavailable: the control database can't be reached.
    """
    await audit.append(
        connection,
        key=key or f"{about}/{kind}",
        at=datetime.now(UTC),
        kind=kind,
        workflow_id=about,
        actor=actor,
        content=content,
    )


async def record_refusal(databases: Databases, *, actor: str, by: str, reason: str) -> None:
    """Append that somebody was turned away; once an hour for the same reason, since strangers could fill the chain.

    Raises:
        ServiceUnavailable: the control database can't be reached.
    """
    refused = {"actor": actor, "by": by, "reason": reason}
    once = digest(refused | {"hour": f"{datetime.now(UTC):%Y-%m-%dT%H}"})
    async with databases.control(autocommit=True) as connection:
        kind = audit.Kind.SIGN_IN_REFUSED
        await record(connection, kind, about="sessions", actor=actor, key=f"{kind}/{once}", by=by, reason=reason)


def in_order(scopes: Iterable[Scope]) -> list[str]:
    """Return scopes as they are stored and shown."""
    return [scope.value for scope in Scope if scope in scopes]
