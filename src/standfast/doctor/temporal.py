"""The Temporal part of `standfast doctor`: what would make recovery slow there, or forgetful."""

import asyncio
import statistics
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import uuid4

from temporalio.api.enums.v1 import EventType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError

from standfast import cluster, visibility
from standfast.doctor import clocks
from standfast.doctor.check import Check
from standfast.doctor.versions import inspect_deployment, workers
from standfast.errors import StandfastError
from standfast.recoveries import time_of
from standfast.settings import Deployment, Settings
from standfast.steps import Pool

_PROBE = "standfast-doctor"  # workflow ids begin with it, and no worker polls a queue of this name
# Several, since a timer may be on time by chance; not multiples of each other.
_DELAYS = tuple(timedelta(milliseconds=ms) for ms in (250, 420, 590))
_LATE = timedelta(milliseconds=250)  # a busy server is later than a quick one, but not that late
_PROBE_ENDS = timedelta(seconds=20)
_SPARE = 2  # processes a pool needs so that one may die
_REMEMBERED = timedelta(days=1)
_CREATE = "temporal operator search-attribute create"
_CLOUD = (".tmprl.cloud", ".temporal.io")


async def inspect_temporal(settings: Settings) -> list[Check]:
    """Check the connection, search attributes, timers, clock, retention, and who polls the task queues."""
    try:
        client = await cluster.connect(settings)
    except StandfastError as error:
        return [Check(name="temporal connection", ok=False, message=str(error))]
    place = f"namespace {client.namespace} at {client.service_client.config.target_host}"
    try:
        retention = await _retention(client)
    except RPCError as error:
        advice = "create it, or set temporal.namespace"
        return [Check(name="temporal connection", ok=False, message=f"{place}: {error.message}; {advice}")]
    looks: dict[str, Callable[[Client], Awaitable[list[Check]]]] = {
        "search attributes": _search_attributes,
        "timers": _timers,
        "task queues": partial(_task_queues, settings.deployment),
        "deployment": partial(inspect_deployment, settings.deployment),
    }
    found = await asyncio.gather(*(_asked(name, look, client) for name, look in looks.items()))
    return [
        Check(name="temporal connection", ok=True, message=place),
        retention,
        *(check for checks in found for check in checks),
    ]


async def _asked(name: str, look: Callable[[Client], Awaitable[list[Check]]], client: Client) -> list[Check]:
    try:
        return await look(client)
    except (RPCError, StandfastError) as error:
        return [Check(name=f"temporal {name}", ok=False, message=f"can't be looked at: {error}")]


async def _retention(client: Client) -> Check:
    kept = await cluster.retention(client)
    hours = f"{kept.total_seconds() / 3600:g} hours"
    found = f"what has ended is remembered for {hours}; the same ticket, sent again later, starts anew"
    if kept >= _REMEMBERED:
        return Check(name="temporal retention", ok=True, message=found)
    advice = f"raise it: temporal operator namespace update --retention 7d {client.namespace}"
    return Check(name="temporal retention", ok=False, message=f"{found}; {advice}")


async def _search_attributes(client: Client) -> list[Check]:
    request = ListSearchAttributesRequest(namespace=client.namespace)
    known = dict((await client.operator_service.list_search_attributes(request)).custom_attributes)
    missing = [key for key in visibility.ATTRIBUTES if known.get(key.name, 0) != key.indexed_value_type.value]
    commands = (f"{_CREATE} --name {key.name} --type {visibility.kind(key)}" for key in missing)
    advice = f"lacks {', '.join(key.name for key in missing)}: {'; '.join(commands)}"
    return [Check(name="temporal search attributes", ok=not missing, message=advice if missing else "are there")]


async def _task_queues(deployment: Deployment, client: Client) -> list[Check]:
    return [_spare(pool, await workers(client, pool, deployment)) for pool in Pool]


def _spare(pool: Pool, found: AbstractSet[str]) -> Check:
    name, start = f"temporal task queue {pool}", f"start `standfast worker --pool {pool}`"
    if not found:
        return Check(name=name, ok=False, message=f"no worker asks for work: every ticket stops here; {start}")
    if len(found) < _SPARE:
        message = f"one worker only ({min(found)}): if it dies, its work waits until it is back; {start} once more"
        return Check(name=name, ok=False, message=message)
    return Check(name=name, ok=True, message=f"{len(found)} workers ask for work")


@dataclass(frozen=True)
class _Probe:
    late: timedelta
    """How much later than it was due the timer fired."""
    ahead: timedelta
    """How far the server's clock is ahead of ours."""


async def _timers(client: Client) -> list[Check]:
    try:
        async with asyncio.timeout(_PROBE_ENDS.total_seconds()):
            probes = await asyncio.gather(*(_probe(client, delay) for delay in _DELAYS))
    except TimeoutError:
        message = f"a timer of {max(_DELAYS).total_seconds()} s did not fire within {_PROBE_ENDS.total_seconds():g} s"
        return [Check(name="temporal timers", ok=False, message=f"{message}; is the server overloaded?")]
    late = timedelta(seconds=statistics.median(probe.late.total_seconds() for probe in probes))
    apart = clocks.complaint(min((probe.ahead for probe in probes), key=abs))
    clock = Check(name="temporal clock", ok=apart is None, message=apart or "agrees with this machine's")
    return [_punctual(late, client.service_client.config.target_host), clock]


def _punctual(late: timedelta, host: str) -> Check:
    name, found = "temporal timers", f"fire {late.total_seconds():.2f} s late"
    if late <= _LATE:
        return Check(name=name, ok=True, message=found)
    if any(cloud in host for cloud in _CLOUD):
        return Check(name=name, ok=True, message=f"{found}, which nobody can change on Temporal Cloud")
    advice = 'set history.timerProcessorMaxTimeShift to "20ms" in the server\'s dynamic configuration (default: 1 s)'
    return Check(name=name, ok=False, message=f"{found}, and so does every recovery; {advice}")


async def _probe(client: Client, delay: timedelta) -> _Probe:
    """Start a workflow that begins after `delay`, see when the server lets it begin, and end it."""
    asked = clocks.now()
    handle = await client.start_workflow(
        "StandfastDoctor",
        id=f"{_PROBE}/{uuid4()}",
        task_queue=_PROBE,
        start_delay=delay,
        execution_timeout=_PROBE_ENDS,
        static_summary="a probe of `standfast doctor`: measures how late timers fire",
    )
    answered = clocks.now()
    try:
        started, fired = await _times(handle)
    finally:
        with suppress(RPCError):  # it has ended by itself
            await handle.terminate("was a probe of `standfast doctor`")
    return _Probe(late=fired - started - delay, ahead=clocks.ahead(started, asked=asked, answered=answered))


async def _times(handle: WorkflowHandle[object, object]) -> tuple[datetime, datetime]:
    """Return when the server started the workflow, and when it let it begin."""
    times: list[datetime] = []
    async for event in handle.fetch_history_events(wait_new_event=True):
        if event.event_type in (
            EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
            EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
        ):
            times.append(time_of(event.event_time))
        if len(times) > 1:
            break
    return times[0], times[-1]
