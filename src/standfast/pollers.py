"""Which worker processes ask for the work of a pool, as the Temporal server sees it."""

from temporalio.api.enums.v1 import DescribeTaskQueueMode, TaskQueueType
from temporalio.api.taskqueue.v1 import PollerInfo, TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion

from standfast.steps import Pool

WORKFLOW = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
ACTIVITY = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY


async def pollers(client: Client, pool: Pool, kind: TaskQueueType.ValueType) -> list[PollerInfo]:
    """Return who asked for tasks of this kind in the last minutes; a process may be in the list more than once.

    Raises:
        RPCError: the server doesn't answer.
    """
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=pool),
        task_queue_types=[kind],
        report_pollers=True,
        # The default mode looks at one of the queue's four partitions, and misses who waits at another one.
        api_mode=DescribeTaskQueueMode.DESCRIBE_TASK_QUEUE_MODE_ENHANCED,
    )
    answer = await client.workflow_service.describe_task_queue(request)
    return [poller for version in answer.versions_info.values() for poller in version.types_info[kind].pollers]


async def pollers_of_version(client: Client, pool: Pool, version: WorkerDeploymentVersion) -> list[PollerInfo]:
    """Return who of a version of the workers asked for activities in the last minutes, as far as the server tells.

    Raises:
        RPCError: the server doesn't answer.
    """
    # The mode above has no versioned workers at all. This one looks at one partition; all workers come by in time.
    request = DescribeTaskQueueRequest(
        namespace=client.namespace, task_queue=TaskQueue(name=pool), task_queue_type=ACTIVITY
    )
    found = (await client.workflow_service.describe_task_queue(request)).pollers
    return [
        poller
        for poller in found
        if (poller.deployment_options.deployment_name, poller.deployment_options.build_id)
        == (version.deployment_name, version.build_id)
    ]
