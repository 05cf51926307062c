"""Payloads in the control database: the storage that is there without any settings."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
)

from standfast.errors import PayloadLost
from standfast.storage.contents import content_of, unmarked
from standfast.store.connections import Connection
from standfast.store.databases import Databases
from standfast.store.sql import statements

_SQL = statements(__package__, "payloads.sql")


class PostgresDriver(StorageDriver):
    """Keeps each payload with the workflow that it belongs to, under the SHA-256 of its content."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    def name(self) -> str:
        """See the base class; claims in histories carry it."""
        return "standfast.postgres"

    def type(self) -> str:
        """See the base class."""
        return self.name()

    async def store(self, context: StorageDriverStoreContext, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        """Store payloads, each once.

        Raises:
            PayloadTooLarge: one is beyond every limit.
            NotPermitted: this process has no URL of the storage.
            ServiceUnavailable: the control database can't be reached.
        """
        target = context.target
        owner = {
            "namespace": target.namespace if target else "",
            "workflow_id": (target and target.id) or "",
            "run_id": (target and target.run_id) or "",
        }
        async with self._databases.payloads() as connection:
            digests = [await _stored(connection, owner, payload) for payload in payloads]
        del owner["run_id"]
        return [StorageDriverClaim(owner | {"sha256": digest.hex()}) for digest in digests]

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        """Return the payloads that were stored.

        Raises:
            PayloadLost: one is not there any more, or is not what was stored.
            NotPermitted: this process has no URL of the storage.
            ServiceUnavailable: the control database can't be reached.
        """
        del context
        async with self._databases.payloads() as connection:
            return [await _retrieved(connection, claim.claim_data) for claim in claims]


async def _stored(connection: Connection, owner: Mapping[str, str], payload: Payload) -> bytes:
    """Return the digest under which the payload is found from now on."""
    plain, mark = unmarked(payload)
    row: dict[str, Any] = {**owner, "mark": mark}
    if mark is not None and (known := await _marked(connection, row)):
        return known
    row["content"] = content_of(plain)
    row["digest"] = hashlib.sha256(row["content"]).digest()
    await connection.execute(_SQL["store"], row)
    # Somebody else may have been first with this mark.
    return (mark is not None and await _marked(connection, row)) or row["digest"]


async def _marked(connection: Connection, row: Mapping[str, Any]) -> bytes | None:
    found = await (await connection.execute(_SQL["marked"], row)).fetchone()
    return None if found is None else found["digest"]


async def _retrieved(connection: Connection, claim: Mapping[str, str]) -> Payload:
    key = {
        "namespace": claim["namespace"],
        "workflow_id": claim["workflow_id"],
        "digest": bytes.fromhex(claim["sha256"]),
    }
    named = f"payload {claim['sha256'][:12]} of {claim['workflow_id']}"
    async with connection.cursor(binary=True) as cursor:
        row = await (await cursor.execute(_SQL["retrieve"], key)).fetchone()
    if row is None:
        raise PayloadLost(f"{named} is not in the control database: it was purged, or this is another database")
    if hashlib.sha256(row["content"]).digest() != key["digest"]:
        raise PayloadLost(f"{named} was changed in the control database; restore it from a backup")
    return Payload.FromString(row["content"])
