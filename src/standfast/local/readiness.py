"""Whether a process of ours does its work now, asked from outside."""

import asyncio
import http.client
from collections.abc import Awaitable, Callable
from datetime import timedelta
from urllib.parse import urlsplit

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.client import Client
from temporalio.service import RPCError

from standfast.errors import ServiceUnavailable
from standfast.pollers import ACTIVITY, WORKFLOW, pollers
from standfast.steps import Pool

Ready = Callable[[int], Awaitable[bool]]
_ANSWER = timedelta(seconds=2)
_POLLED = {Pool.CORE: (WORKFLOW, ACTIVITY), Pool.LLM: (WORKFLOW, ACTIVITY), Pool.DATABASE: (ACTIVITY,)}


def polls(client: Client, pool: Pool) -> Ready:
    """Ready when the server has seen the very process poll all it serves."""

    async def ready(pid: int) -> bool:
        found = await asyncio.gather(*(_pollers(client, pool, kind) for kind in _POLLED[pool]))
        # A worker's identity begins with its process id; the server remembers dead ones for minutes.
        return all(any(identity.startswith(f"{pid}@") for identity in identities) for identities in found)

    return ready


def answers(url: str) -> Ready:
    """Ready when a GET of `url` returns status 200."""
    parts = urlsplit(url)

    def get() -> bool:
        # No redirects and no proxy from the environment: it is this machine.
        connection = http.client.HTTPConnection(parts.netloc, timeout=_ANSWER.total_seconds())
        try:
            connection.request("GET", parts.path)
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    async def ready(pid: int) -> bool:
        del pid
        return await asyncio.to_thread(get)

    return ready


async def _pollers(client: Client, pool: Pool, kind: TaskQueueType.ValueType) -> list[str]:
    try:
        async with asyncio.timeout(_ANSWER.total_seconds()):
            return [poller.identity for poller in await pollers(client, pool, kind)]
    except (RPCError, TimeoutError) as error:
        raise ServiceUnavailable(f"Temporal: {error}") from error
