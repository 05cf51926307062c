"""Versions of the workers, as Temporal's Worker Deployments keep them apart: a ticket ends on the version it began on.

All pools together are one deployment, and a version is one build of all of them: the planners and the activities of a
ticket are then done by the version that the ticket is on, so what they say to each other always fits. An old version
needs its workers until its last ticket has ended.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

from google.protobuf.field_mask_pb2 import FieldMask
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.deployment.v1 import RoutingConfig, WorkerDeploymentInfo, WorkerDeploymentVersion
from temporalio.api.enums.v1 import RoutingConfigUpdateState, WorkerDeploymentVersionStatus
from temporalio.api.workflow.v1 import VersioningOverride, WorkflowExecutionOptions
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    DescribeWorkerDeploymentResponse,
    DescribeWorkerDeploymentVersionRequest,
    SetWorkerDeploymentCurrentVersionRequest,
    SetWorkerDeploymentRampingVersionRequest,
    UpdateWorkflowExecutionOptionsRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from standfast.domain import Record
from standfast.errors import InvalidInput
from standfast.steps import Pool
from standfast.translation import of_temporal

_STATUS = WorkerDeploymentVersionStatus
_ARRIVES = 10.0  # seconds after which a change that was accepted is not waited for any longer
_LOOK = 0.1  # seconds between two looks at whether it has arrived
_NO_VERSIONS = (RPCStatusCode.NOT_FOUND, RPCStatusCode.UNIMPLEMENTED)  # the latter by servers before 1.28
_NOT_YET = (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.INVALID_ARGUMENT)


class Use(StrEnum):
    """What a version is for at present."""

    CURRENT = "current"
    """New tickets begin on it."""
    RAMPING = "ramping"
    """A share of the new tickets begins on it."""
    OLD = "old"
    """What began on it goes on there."""
    NEW = "new"
    """Nothing has begun on it yet."""


class Version(Record):
    """One build of the workers, as the server sees it."""

    build_id: str
    use: Use
    share: float
    """Per cent of new tickets that begin on it."""
    open: int
    """Workflows under way on it: tickets, planners, batches."""


class Deployments:
    """The versions of one deployment."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name

    async def versions(self) -> list[Version]:
        """Return all versions that the server remembers, the newest first; none if no versioned worker ever came.

        Raises:
            ServiceUnavailable: Temporal can't be reached.
        """
        info = (await self._described()).worker_deployment_info
        return [
            Version(
                build_id=build_id,
                use=use,
                share=_share(info.routing_config, build_id),
                open=await self._open(build_id),
            )
            for build_id, use in _newest_first(info)
        ]

    async def old(self) -> dict[str, int]:
        """Return how much is under way on each old version, the newest first; of others the server isn't asked.

        Raises:
            ServiceUnavailable: Temporal can't be reached.
        """
        known = _newest_first((await self._described()).worker_deployment_info)
        return {build_id: await self._open(build_id) for build_id, use in known if use is Use.OLD}

    async def idle(self, build_id: str | None) -> str | None:
        """Return why a worker of this build gets no new tickets, and what to do; None if it gets some.

        Raises:
            ServiceUnavailable: Temporal can't be reached.
        """
        routing = (await self._described()).worker_deployment_info.routing_config
        current, ramping = routing.current_deployment_version.build_id, routing.ramping_deployment_version.build_id
        if build_id is None and current:
            return (
                f"new tickets begin on build {current} of deployment {self._name}, but deployment.build_id is not set: "
                "such workers get none; set it"
            )
        if build_id is None or build_id in (current, ramping):
            return None
        return (
            f"new tickets begin on {f'build {current}' if current else 'workers without a version'}, not on build "
            f"{build_id}: `standfast deploy current {build_id}` changes that, once workers of all pools are there"
        )

    async def make_current(self, build_id: str) -> None:
        """Let all new tickets begin on a version, and what is not versioned go on there.

        Raises:
            InvalidInput: no worker of a pool has come with this build.
            ServiceUnavailable: Temporal can't be reached.
        """
        await self._require_all_pools(build_id)
        with self._translated(build_id):
            await self._client.workflow_service.set_worker_deployment_current_version(
                SetWorkerDeploymentCurrentVersionRequest(
                    namespace=self._client.namespace,
                    deployment_name=self._name,
                    build_id=build_id,
                    conflict_token=(await self._described()).conflict_token,
                )
            )
        await self._known_everywhere()

    async def ramp(self, build_id: str, share: float) -> None:
        """Let `share` per cent of the new tickets begin on a version; 0 takes all of them away from it.

        Raises:
            InvalidInput: no worker of a pool has come with this build, or it has no share that could be taken away.
            ServiceUnavailable: Temporal can't be reached.
        """
        if share:
            await self._require_all_pools(build_id)
        described = await self._described()
        ramping = described.worker_deployment_info.routing_config.ramping_deployment_version.build_id
        if not share and build_id != ramping:
            raise InvalidInput(
                f"build {build_id} is not ramping, {f'build {ramping}' if ramping else 'no build'} is; "
                "`standfast deploy show` lists all"
            )
        with self._translated(build_id):
            await self._client.workflow_service.set_worker_deployment_ramping_version(
                SetWorkerDeploymentRampingVersionRequest(
                    namespace=self._client.namespace,
                    deployment_name=self._name,
                    build_id=build_id if share else "",
                    percentage=share,
                    conflict_token=described.conflict_token,
                )
            )
        await self._known_everywhere()

    async def move(self, workflow_id: str, run_id: str, build_id: str) -> None:
        """Let a workflow go on on another version, from its next task on; nothing if it has ended.

        What it starts from then on, and the runs that it continues as, begin on that version, too.

        Raises:
            ServiceUnavailable: Temporal can't be reached.
        """
        version = WorkerDeploymentVersion(deployment_name=self._name, build_id=build_id)
        pinned = VersioningOverride.PinnedOverride(
            version=version, behavior=VersioningOverride.PINNED_OVERRIDE_BEHAVIOR_PINNED
        )
        override = VersioningOverride(pinned=pinned)
        await self._override(workflow_id, run_id, WorkflowExecutionOptions(versioning_override=override))

    async def take_back(self, workflow_id: str, run_id: str) -> None:
        """Let a workflow that was moved go on on the version that did its last task; nothing if it has ended.

        Raises:
            ServiceUnavailable: Temporal can't be reached.
        """
        await self._override(workflow_id, run_id, WorkflowExecutionOptions())

    async def _override(self, workflow_id: str, run_id: str, options: WorkflowExecutionOptions) -> None:
        request = UpdateWorkflowExecutionOptionsRequest(
            namespace=self._client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
            workflow_execution_options=options,
            update_mask=FieldMask(paths=["versioning_override"]),
        )
        with of_temporal():
            try:
                await self._client.workflow_service.update_workflow_execution_options(request)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise

    def under_way(self, build_id: str) -> str:
        """Return the visibility condition of what is under way on a version."""
        return f'TemporalWorkerDeploymentVersion = "{self._name}:{build_id}" AND ExecutionStatus = "Running"'

    async def _described(self) -> DescribeWorkerDeploymentResponse:
        request = DescribeWorkerDeploymentRequest(namespace=self._client.namespace, deployment_name=self._name)
        with of_temporal():
            try:
                return await self._client.workflow_service.describe_worker_deployment(request)
            except RPCError as error:
                if error.status not in _NO_VERSIONS:
                    raise
                return DescribeWorkerDeploymentResponse()

    async def _known_everywhere(self) -> None:
        """Wait until every task queue has heard of a change, as a rule within three seconds."""
        going = RoutingConfigUpdateState.ROUTING_CONFIG_UPDATE_STATE_IN_PROGRESS
        with suppress(TimeoutError):  # it was accepted and will arrive
            async with asyncio.timeout(_ARRIVES):
                while (await self._described()).worker_deployment_info.routing_config_update_state == going:  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK)

    async def _open(self, build_id: str) -> int:
        with self._translated(build_id):
            return (await self._client.count_workflows(self.under_way(build_id))).count

    async def _require_all_pools(self, build_id: str) -> None:
        """The server asks only for queues that the version before had; the first version would be let through."""
        version = WorkerDeploymentVersion(deployment_name=self._name, build_id=build_id)
        request = DescribeWorkerDeploymentVersionRequest(namespace=self._client.namespace, deployment_version=version)
        with self._translated(build_id):
            described = await self._client.workflow_service.describe_worker_deployment_version(request)
        served = {queue.name for queue in described.version_task_queues}
        if missing := [pool for pool in Pool if pool not in served]:
            raise InvalidInput(
                f"no worker of pool {' or '.join(missing)} has come with build {build_id}; start `standfast worker` "
                f"with deployment.build_id = {build_id!r} for every pool first"
            )

    @contextmanager
    def _translated(self, build_id: str) -> Iterator[None]:
        with of_temporal():
            try:
                yield
            except RPCError as error:
                if error.status not in _NOT_YET:
                    raise
                raise InvalidInput(
                    f"build {build_id} of deployment {self._name}: {error.message}; `standfast deploy show` lists all"
                ) from error


def _newest_first(info: WorkerDeploymentInfo) -> list[tuple[str, Use]]:
    """Return the builds of all versions that the server remembers, and what they are for."""
    summaries = sorted(info.version_summaries, key=lambda one: one.create_time.ToDatetime(), reverse=True)
    return [(one.deployment_version.build_id, _use(one.status)) for one in summaries]


def _use(status: WorkerDeploymentVersionStatus.ValueType) -> Use:
    match status:
        case _STATUS.WORKER_DEPLOYMENT_VERSION_STATUS_CURRENT:
            return Use.CURRENT
        case _STATUS.WORKER_DEPLOYMENT_VERSION_STATUS_RAMPING:
            return Use.RAMPING
        case _STATUS.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINING | _STATUS.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINED:
            return Use.OLD
        case _:
            return Use.NEW


def _share(routing: RoutingConfig, build_id: str) -> float:
    ramping = routing.ramping_version_percentage if routing.ramping_deployment_version.build_id else 0.0
    if build_id == routing.ramping_deployment_version.build_id:
        return ramping
    return 100.0 - ramping if build_id == routing.current_deployment_version.build_id else 0.0
