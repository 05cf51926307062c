"""Large payloads in a bucket: by setting, beside those that the control database already has."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from uuid import uuid4

import boto3
import psycopg
import pytest
import pytest_asyncio
from moto.server import ThreadedMotoServer
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
    StorageDriverWorkflowInfo,
)

from standfast import cluster
from standfast.client import Standfast
from standfast.errors import PayloadLost, ServiceUnavailable
from standfast.local.ports import free_port
from standfast.outcome import State
from standfast.retention import namespaces
from standfast.retention.purge import purge
from standfast.settings import S3
from standfast.steps import Pool
from standfast.storage.s3 import s3_driver
from standfast.store.connections import open_connection
from tests.integration.installation import CONSTRAINTS, Installation, prepare, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROWS = [{"row": number, "text": "Parcel never came. " * 50} for number in range(200)]
PLAN = {"operations": [{"sql": "UPDATE shop.orders SET status = $1 WHERE id = $2", "params": ["please", 1000]}]}
OF_A_TICKET = StorageDriverStoreContext(
    target=StorageDriverWorkflowInfo(namespace="default", id="ticket/shop/ä 1", run_id="run", type="Ticket")
)


@pytest.fixture(scope="module")
def bucket() -> Iterator[S3]:
    """An empty bucket of a service that speaks S3, over HTTP."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        port = free_port()
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
        server.start()
        s3 = S3(bucket="payloads", region="us-east-1", endpoint=f"http://127.0.0.1:{port}")
        boto3.client("s3", region_name=s3.region, endpoint_url=s3.endpoint).create_bucket(Bucket=s3.bucket)
        yield s3
        server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(postgres: str, temporal_server: str, bucket: S3) -> AsyncIterator[Installation]:
    name = f"t{uuid4().hex[:8]}"
    settings, owner = await prepare(postgres, temporal_server, name)
    control = settings.control.model_copy(
        update={"owner": SecretStr(make_conninfo(postgres, dbname=f"{name}_control"))}
    )
    storage = settings.storage.model_copy(update={"s3": bucket})
    settings = settings.model_copy(update={"storage": storage, "control": control})
    async with serving(settings, *Pool), Standfast.connect(settings) as client:
        installation = Installation(settings, client, owner)
        await installation.constrain(CONSTRAINTS)
        yield installation


async def keys(s3: S3) -> list[str]:
    async with s3_driver(s3) as driver:
        return [found.key async for found in driver.stored("default")]


async def test_a_ticket_with_a_large_payload_goes_by_way_of_the_bucket_until_it_is_purged(
    installation: Installation, bucket: S3
) -> None:
    workflow_id = await installation.submit(PLAN, subject={"order_id": 1000}, metadata={"plan": PLAN, "rows": ROWS})
    assert (await installation.client.wait(workflow_id)).state is State.DONE
    assert len(await keys(bucket)) > 1
    owner = installation.settings.control.owner
    assert owner is not None
    with psycopg.connect(owner.get_secret_value()) as connection:
        assert connection.execute("SELECT count(*) FROM standfast.payload").fetchall() == [(0,)]

    async with await open_connection(owner.get_secret_value()) as control:
        await namespaces.note(await cluster.connect(installation.settings), control)
    purged = await purge(
        installation.settings,
        before=datetime.now(UTC),
        by="ops@example.com",
        histories=False,
        dry_run=False,
        progress=lambda *_: None,
    )
    assert purged.removed["payloads"] > 1
    assert await keys(bucket) == []


async def test_what_comes_back_from_the_bucket_is_what_was_stored_or_nothing(bucket: S3) -> None:
    payload = Payload(metadata={"encoding": b"binary/plain"}, data=b"x" * 100_000)
    async with s3_driver(bucket) as driver:
        (claim,) = await driver.store(OF_A_TICKET, [payload])
        assert await driver.retrieve(StorageDriverRetrieveContext(), [claim]) == [payload]
        (stored,) = [found async for found in driver.stored("default")]
        assert stored.workflow_id == "ticket/shop/ä 1"
        objects = boto3.resource("s3", region_name=bucket.region, endpoint_url=bucket.endpoint)
        objects.Object(bucket.bucket, stored.key).put(Body=b"y")
        with pytest.raises(PayloadLost, match="integrity check failed"):
            await driver.retrieve(StorageDriverRetrieveContext(), [claim])
        await driver.remove([stored.key])
        with pytest.raises(PayloadLost, match="it was purged, or this is another bucket"):
            await driver.retrieve(StorageDriverRetrieveContext(), [claim])


async def test_a_bucket_that_is_away_is_a_service_that_is_away(bucket: S3) -> None:
    away = bucket.model_copy(update={"endpoint": f"http://127.0.0.1:{free_port()}"})
    async with s3_driver(away) as driver, asyncio.timeout(60):
        with pytest.raises(ServiceUnavailable, match="Could not connect"):
            await driver.store(OF_A_TICKET, [Payload(data=b"x")])


async def test_a_payload_in_a_bucket_that_is_away_is_not_lost_whatever_its_address_looks_like(bucket: S3) -> None:
    named = StorageDriverStoreContext(
        target=StorageDriverWorkflowInfo(namespace="other", id="ticket/shop/NoSuchKey-404", run_id="run", type="Ticket")
    )
    async with s3_driver(bucket) as driver:
        claims = await driver.store(named, [Payload(data=b"x")])
    away = bucket.model_copy(update={"endpoint": f"http://127.0.0.1:{free_port()}"})
    async with s3_driver(away) as driver, asyncio.timeout(60):
        with pytest.raises(ServiceUnavailable, match="Could not connect"):
            await driver.retrieve(StorageDriverRetrieveContext(), claims)
