"""Sealing: records that we keep ourselves are encrypted as the payloads of the workflow that they belong to."""

from dataclasses import replace
from typing import Any, TypeVar

from temporalio.api.common.v1 import Payload
from temporalio.converter import DataConverter

from standfast.codec.reading import of_workflow
from standfast.storage.contents import unmarked

Opened = TypeVar("Opened")


class Seal:
    """Seals and opens for one namespace."""

    def __init__(self, converter: DataConverter, namespace: str) -> None:
        # Rows are a database's own: nothing of them goes to the storage of large payloads.
        self._converter = replace(converter, external_storage=None)
        self._namespace = namespace

    async def close(self, workflow_id: str, value: Any) -> bytes:
        """Return the value as a sealed payload of the workflow."""
        (payload,) = await self._of(workflow_id).encode([value])
        return unmarked(payload)[0].SerializeToString()

    async def open(self, workflow_id: str, kind: type[Opened], sealed: bytes) -> Opened:
        """Return the value again.

        Raises:
            UnknownKey: a key is missing.
            PayloadRefused: it was changed, or sealed for another workflow.
        """
        value: Opened
        (value,) = await self._of(workflow_id).decode([Payload.FromString(sealed)], [kind])
        return value

    def _of(self, workflow_id: str) -> DataConverter:
        return of_workflow(self._converter, self._namespace, workflow_id)
