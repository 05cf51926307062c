"""Payloads in a bucket of S3, by Temporal's own driver."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from temporalio.api.common.v1 import Payload
from temporalio.contrib.aws.s3driver import S3StorageDriver, S3StorageDriverClient
from temporalio.converter import StorageDriverClaim, StorageDriverRetrieveContext, StorageDriverStoreContext

from standfast.errors import InvalidInput, PayloadLost, ServiceUnavailable
from standfast.settings import S3
from standfast.storage.contents import MAX_BYTES, content_of, unmarked

if TYPE_CHECKING:  # of the extra
    from types_aiobotocore_s3.client import S3Client
    from types_aiobotocore_s3.type_defs import ObjectIdentifierTypeDef

_GONE = frozenset({"NoSuchKey", "404"})  # in the code of an answer
_KEPT = "!*'()"
"""Characters beyond letters, digits and `-_.` that stay as they are in a key."""
_DELETED_AT_ONCE = 1000  # S3 takes no more


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An object in the bucket."""

    key: str
    workflow_id: str
    """Empty if it belongs to none."""
    size: int
    stored_at: datetime


class S3Driver(S3StorageDriver):
    """Temporal's driver, with our errors, and with what it takes to remove payloads again."""

    def __init__(self, objects: S3StorageDriverClient, service: "S3Client", bucket: str) -> None:
        super().__init__(objects, bucket, max_payload_size=MAX_BYTES)
        self._service = service
        self._place = bucket

    async def store(self, context: StorageDriverStoreContext, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        """See the base class.

        Raises:
            PayloadTooLarge: a payload has more than `MAX_BYTES`.
            ServiceUnavailable: the bucket can't be reached, or refuses.
        """
        plain = [unmarked(payload)[0] for payload in payloads]
        for payload in plain:
            content_of(payload)
        try:
            return await super().store(context, plain)
        except RuntimeError as error:
            raise ServiceUnavailable(f"{error}: {error.__cause__}") from error

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        """See the base class.

        Raises:
            PayloadLost: a payload is not there any more, or is not what was stored.
            ServiceUnavailable: the bucket can't be reached, or refuses.
        """
        try:
            return await super().retrieve(context, claims)
        except ValueError as error:
            raise PayloadLost(str(error)) from error
        except RuntimeError as error:
            if _is_gone(error.__cause__):
                raise PayloadLost(f"{error}: it was purged, or this is another bucket") from error
            raise ServiceUnavailable(f"{error}: {error.__cause__}") from error

    async def stored(self, namespace: str) -> AsyncIterator[Stored]:
        """Yield what is stored of a namespace's workflows.

        Raises:
            ServiceUnavailable: the bucket can't be reached, or refuses.
        """
        prefix = f"v0/ns/{quote(namespace, safe=_KEPT)}/"
        with self._refusals():
            async for page in self._service.get_paginator("list_objects_v2").paginate(
                Bucket=self._place, Prefix=prefix
            ):
                for found in page.get("Contents", ()):
                    yield Stored(
                        key=found["Key"],
                        workflow_id=_workflow_id(found["Key"]),
                        size=found["Size"],
                        stored_at=found["LastModified"],
                    )

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are gone already don't matter.

        Raises:
            ServiceUnavailable: the bucket can't be reached, or refuses.
        """
        for first in range(0, len(keys), _DELETED_AT_ONCE):
            named: list[ObjectIdentifierTypeDef] = [{"Key": key} for key in keys[first : first + _DELETED_AT_ONCE]]
            with self._refusals():
                answer = await self._service.delete_objects(Bucket=self._place, Delete={"Objects": named})
            if errors := answer.get("Errors"):
                raise ServiceUnavailable(f"bucket {self._place}: {errors[0].get('Key')}: {errors[0].get('Message')}")

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - an extra

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise ServiceUnavailable(f"bucket {self._place}: {error}") from error


def _is_gone(cause: BaseException | None) -> bool:
    from botocore.exceptions import ClientError  # noqa: PLC0415 - an extra

    return isinstance(cause, ClientError) and cause.response.get("Error", {}).get("Code") in _GONE


def _workflow_id(key: str) -> str:
    """Return whose an object is; Temporal's driver builds the key."""
    _, *names = key.split("/")
    parts = dict(zip(names[::2], names[1::2], strict=False))
    return unquote(parts.get("wi", ""))


@asynccontextmanager
async def s3_driver(s3: S3) -> AsyncIterator[S3Driver]:
    """Open the driver for a bucket; credentials come from where every AWS program looks for them.

    Raises:
        InvalidInput: the library is not installed.
    """
    try:
        import aioboto3  # noqa: PLC0415 - an extra
        from aiobotocore.config import AioConfig  # noqa: PLC0415
        from temporalio.contrib.aws.s3driver.aioboto3 import new_aioboto3_client  # noqa: PLC0415
    except ImportError as error:
        raise InvalidInput(f"storage.s3 is set: {error}; pip install 'standfast[s3]'") from error
    session = aioboto3.Session()
    # The library would try for minutes, and a step that needs it would run out of time: Temporal tries again.
    patience = AioConfig(connect_timeout=2, read_timeout=15, retries={"mode": "standard", "total_max_attempts": 2})
    async with session.client("s3", region_name=s3.region, endpoint_url=s3.endpoint, config=patience) as service:
        yield S3Driver(new_aioboto3_client(service), service, s3.bucket)
