"""The storage of large payloads that the settings name, for one process."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.converter import (
    DataConverter,
    ExternalStorage,
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
)

from standfast.settings import Settings
from standfast.storage.postgres import PostgresDriver
from standfast.store.databases import Databases


class _ForReplay(StorageDriver):
    """Finds what another driver has stored, and stores nothing: what a replay makes, nobody reads."""

    def __init__(self, driver: StorageDriver) -> None:
        self._driver = driver

    def name(self) -> str:
        return self._driver.name()

    async def store(self, context: StorageDriverStoreContext, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        del context
        return [StorageDriverClaim({}) for _ in payloads]

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        return await self._driver.retrieve(context, claims)


@asynccontextmanager
async def external_storage(
    settings: Settings, databases: Databases, *, for_replay: bool = False
) -> AsyncIterator[ExternalStorage]:
    """Open the storage. New payloads go to S3 if the settings say so; what was stored in either place is found.

    With `for_replay` nothing new is stored.

    Raises:
        InvalidInput: S3 is set, and its library is not installed.
    """
    threshold = int(settings.storage.threshold)
    drivers: list[StorageDriver] = [PostgresDriver(databases)]
    async with AsyncExitStack() as stack:
        if settings.storage.s3 is not None:
            from standfast.storage.s3 import s3_driver  # noqa: PLC0415 - an extra, and slow to load

            drivers.insert(0, await stack.enter_async_context(s3_driver(settings.storage.s3)))
        if for_replay:
            drivers = list(map(_ForReplay, drivers))
        first = drivers[0]
        yield ExternalStorage(drivers, driver_selector=lambda *_: first, payload_size_threshold=threshold)


async def retrieved(storage: ExternalStorage, payloads: Sequence[Payload]) -> list[Payload]:
    """Return payloads as they were stored, where they are claims.

    Raises:
        PayloadLost: one is not there any more, or is not what was stored.
        ServiceUnavailable: the storage can't be reached.
    """
    converter = DataConverter(external_storage=storage)
    return [value.payload for value in await converter.decode(payloads, [RawValue] * len(payloads))]
