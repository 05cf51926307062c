"""Standfast with the time-outs of the SDK in place of ours, to see what ours are good for.

As a client plugin it takes ours away wherever they are given to Temporal; as a program, `python -m bench.sdk_defaults
--config FILE worker --pool POOL`, it is our worker with that plugin.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from temporalio.client import Interceptor as ClientInterceptor
from temporalio.client import OutboundInterceptor, StartWorkflowInput, WorkflowHandle
from temporalio.plugin import SimplePlugin
from temporalio.service import ConnectConfig, KeepAliveConfig, ServiceClient
from temporalio.worker import (
    Interceptor,
    StartActivityInput,
    StartChildWorkflowInput,
    WorkerConfig,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)
from temporalio.workflow import ActivityHandle, ChildWorkflowHandle

from standfast import worker
from standfast.cli import main
from standfast.settings import Settings
from standfast.steps import Pool
from standfast.store.databases import Databases
from standfast.worker import Registrations

# The one time-out that the SDK has no default for. Ours go up to five minutes, which is what a dead worker would cost
# without heartbeats; ten seconds are generous to the defaults.
START_TO_CLOSE = timedelta(seconds=10)
_STICKY_QUEUE = timedelta(seconds=10)
_HEARTBEAT_THROTTLE = timedelta(seconds=60), timedelta(seconds=30)


class SdkDefaults(SimplePlugin):
    """The plugin."""

    def __init__(self) -> None:
        super().__init__("bench.sdk_defaults", interceptors=[_Client(), _Worker()])

    async def connect_service_client(
        self,
        config: ConnectConfig,
        next: Callable[[ConnectConfig], Awaitable[ServiceClient]],  # noqa: A002 - temporalio's name
    ) -> ServiceClient:
        """See the base class."""
        return await next(replace(config, keep_alive_config=KeepAliveConfig.default))

    def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        """See the base class."""
        config = super().configure_worker(config)
        config["sticky_queue_schedule_to_start_timeout"] = _STICKY_QUEUE
        config["max_heartbeat_throttle_interval"], config["default_heartbeat_throttle_interval"] = _HEARTBEAT_THROTTLE
        return config


class _Client(ClientInterceptor):
    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:  # noqa: A002 - temporalio's name
        return _ClientOutbound(next)


class _ClientOutbound(OutboundInterceptor):
    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:  # noqa: A002 - temporalio's name
        input.task_timeout = None
        return await super().start_workflow(input)


class _Worker(Interceptor):
    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002 - temporalio's name
    ) -> type[WorkflowInboundInterceptor] | None:
        del input
        return _WorkflowInbound


class _WorkflowInbound(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_WorkflowOutbound(outbound))


class _WorkflowOutbound(WorkflowOutboundInterceptor):
    def start_activity(self, input: StartActivityInput) -> ActivityHandle[Any]:  # noqa: A002 - temporalio's name
        input.start_to_close_timeout = START_TO_CLOSE
        input.heartbeat_timeout = None
        input.retry_policy = None
        return super().start_activity(input)

    async def start_child_workflow(self, input: StartChildWorkflowInput) -> ChildWorkflowHandle[Any, Any]:  # noqa: A002 - temporalio's name
        input.task_timeout = None
        return await super().start_child_workflow(input)


_registrations = worker.registrations


def _registrations_with_defaults(pool: Pool, settings: Settings, databases: Databases) -> Registrations:
    served = _registrations(pool, settings, databases)
    return replace(served, plugins=(*served.plugins, SdkDefaults()))


if __name__ == "__main__":
    worker.registrations = _registrations_with_defaults
    main()
