"""Workers: which pool serves what, with which limits. One process serves one pool."""

import asyncio
import gc
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.plugin import SimplePlugin
from temporalio.service import RPCError
from temporalio.worker import Worker, WorkerDeploymentConfig

from standfast import cluster, steps
from standfast.boundary import Boundary
from standfast.deployment import Deployments
from standfast.errors import ServiceUnavailable, StandfastError
from standfast.retention import namespaces
from standfast.runner import SandboxedRunner, UnsandboxedRunner
from standfast.settings import Deployment, Settings
from standfast.steps import Pool
from standfast.storage.external import external_storage
from standfast.store.databases import Databases

logger = logging.getLogger("standfast.worker")

# Validation and execution use two connections each; the pool of connections holds sixteen.
_ACTIVITIES = 8
# A ticket that a worker remembers takes a third of a MiB, and reacts to a decision in 11 ms instead of 33 (see
# docs/benchmarks.md): a core worker stays at half a GiB, however many tickets wait.
_REMEMBERED = 1000
# How long a worker that was asked to stop lets its activities finish; a COMMIT must not be cut off.
_GRACE = {Pool.CORE: timedelta(seconds=5), Pool.LLM: timedelta(seconds=5), Pool.DATABASE: timedelta(seconds=30)}
_NOTED_LATER = 60.0  # seconds
# The SDK holds heartbeats back for up to 80 % of the time-out, which would turn one lost heartbeat into a time-out.
_HEARTBEAT_THROTTLE = steps.HEARTBEAT / 8


@dataclass(frozen=True, kw_only=True)
class Registrations:
    """What one pool serves."""

    workflows: Sequence[type] = ()
    activities: Sequence[Callable[..., Any]] = ()
    plugins: Sequence[SimplePlugin] = ()
    """What the pool's libraries need of clients and of replayers."""


def registrations(pool: Pool, settings: Settings, databases: Databases) -> Registrations:
    """Return what `pool` serves. Imports are late: a pool loads its own libraries only."""
    match pool:
        case Pool.CORE:
            from standfast.batching.activities import Batching  # noqa: PLC0415 - see the docstring
            from standfast.batching.workflow import BatchWorkflow  # noqa: PLC0415
            from standfast.conclusion import Recorder  # noqa: PLC0415
            from standfast.rehearsal import RehearsalWorkflow  # noqa: PLC0415
            from standfast.retrieval.activity import Retrieval  # noqa: PLC0415
            from standfast.review import Reviewer  # noqa: PLC0415
            from standfast.safety.activity import Validation  # noqa: PLC0415
            from standfast.workflow import TicketWorkflow  # noqa: PLC0415

            reviewer = Reviewer(databases, settings.review)
            validation = Validation(databases, settings)
            batching = Batching(databases, settings)
            return Registrations(
                workflows=[TicketWorkflow, BatchWorkflow, RehearsalWorkflow],
                activities=[
                    Retrieval(databases).gather,
                    validation.validate,
                    validation.rehearse,
                    reviewer.review,
                    reviewer.remind,
                    Recorder(databases).conclude,
                    batching.page,
                    batching.record,
                    batching.cancel,
                ],
            )
        case Pool.LLM:
            from standfast.planner.registrations import planner_registrations  # noqa: PLC0415

            workflows, activities, plugins = planner_registrations(settings, databases)
            return Registrations(workflows=workflows, activities=activities, plugins=plugins)
        case Pool.DATABASE:
            from standfast.execution.activity import Executor  # noqa: PLC0415

            executor = Executor(databases)
            return Registrations(activities=[executor.execute, executor.recall, executor.settle])


def build(pool: Pool, client: Client, served: Registrations, deployment: Deployment) -> Worker:
    """Return the worker of `pool`; see standfast.steps for the time-outs and their reasons."""
    return Worker(
        client,
        task_queue=pool,
        workflows=served.workflows,
        activities=served.activities,
        interceptors=[Boundary()],
        workflow_runner=SandboxedRunner(),
        unsandboxed_workflow_runner=UnsandboxedRunner(),
        deployment_config=_version(deployment),
        max_cached_workflows=_REMEMBERED,
        max_concurrent_activities=_ACTIVITIES,
        sticky_queue_schedule_to_start_timeout=steps.STICKY_QUEUE,
        max_heartbeat_throttle_interval=_HEARTBEAT_THROTTLE,
        default_heartbeat_throttle_interval=_HEARTBEAT_THROTTLE,
        graceful_shutdown_timeout=_GRACE[pool],
    )


async def run(pool: Pool, settings: Settings) -> None:
    """Serve `pool` until SIGTERM or SIGINT, then hand everything over in order.

    Raises:
        ServiceUnavailable: Temporal can't be reached.
    """
    async with AsyncExitStack() as stack:
        databases = await stack.enter_async_context(Databases(settings, application=f"standfast-{pool}"))
        served = registrations(pool, settings, databases)
        storage = await stack.enter_async_context(external_storage(settings, databases))
        client = await cluster.connect(settings, storage, plugins=served.plugins)
        stop = asyncio.Event()
        stack.enter_context(_stopping_on_signal(stop))
        gc.freeze()  # what was imported stays: collecting garbage needn't look through it for ever
        async with build(pool, client, served, settings.deployment):
            logger.info("worker of pool %s is polling", pool)
            # Beside the work: neither may keep the worker from being stopped.
            noting = asyncio.create_task(_note_namespace(pool, client, databases))
            warning = asyncio.create_task(_warn_if_idle(client, settings.deployment))
            await stop.wait()
            noting.cancel()
            warning.cancel()
            for failed in await asyncio.gather(noting, warning, return_exceptions=True):
                if isinstance(failed, Exception):
                    logger.error("a note of the worker failed", exc_info=failed)


async def _note_namespace(pool: Pool, client: Client, databases: Databases) -> None:
    """Let a purge know later which Temporal namespace knows these tickets."""
    while pool is Pool.CORE:
        try:
            async with databases.control() as connection:
                await namespaces.note(client, connection)
        except (StandfastError, psycopg.Error, RPCError) as error:
            logger.warning("the Temporal namespace is not noted in the control database yet: %s", error)
            await asyncio.sleep(_NOTED_LATER)
        else:
            return


def _version(deployment: Deployment) -> WorkerDeploymentConfig | None:
    """Return this worker's version; tickets, planners and batches stay on it to their end.

    Here alone: a behavior in a workflow's own definition would have every task of it refused, without any word to its
    ticket, where workers have no version.
    """
    if deployment.build_id is None:
        return None
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(deployment.name, deployment.build_id),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )


async def _warn_if_idle(client: Client, deployment: Deployment) -> None:
    """Say so if the server gives this worker no new tickets."""
    with suppress(ServiceUnavailable):  # the worker has its own ways to wait for the server
        warning = await Deployments(client, deployment.name).idle(deployment.build_id)
        if warning is not None:
            logger.warning("%s", warning)


def _stopping_on_signal(stop: asyncio.Event) -> ExitStack:
    loop = asyncio.get_running_loop()
    stack = ExitStack()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
        stack.callback(loop.remove_signal_handler, number)
    return stack
