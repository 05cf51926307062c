"""The part of `standfast doctor` about workers and their versions: who is there, and whether work gets to them."""

from collections.abc import Set as AbstractSet
from datetime import timedelta

from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion

from standfast.deployment import Deployments, Use, Version
from standfast.doctor import clocks
from standfast.doctor.check import Check
from standfast.pollers import ACTIVITY, pollers, pollers_of_version
from standfast.recoveries import time_of
from standfast.settings import Deployment
from standfast.steps import Pool

_SEEN = timedelta(seconds=90)  # a worker asks for work at least once a minute


async def workers(client: Client, pool: Pool, deployment: Deployment) -> AbstractSet[str]:
    """Return the identities of the processes that serve `pool` with this build, or without one.

    Raises:
        RPCError: the server doesn't answer.
    """
    if deployment.build_id is None:
        found = await pollers(client, pool, ACTIVITY)  # every worker of ours asks for activities
    else:
        version = WorkerDeploymentVersion(deployment.name, deployment.build_id)
        found = await pollers_of_version(client, pool, version)
    since = clocks.now() - _SEEN
    return {poller.identity for poller in found if time_of(poller.last_access_time) > since}


async def inspect_deployment(deployment: Deployment, client: Client) -> list[Check]:
    """Check that new tickets get to the workers of this build, and that old versions have the workers they need.

    Raises:
        RPCError: the server doesn't answer.
        ServiceUnavailable: the same.
    """
    deployments = Deployments(client, deployment.name)
    idle = await deployments.idle(deployment.build_id)
    fine = "workers have no version" if deployment.build_id is None else f"new tickets begin on {deployment.build_id}"
    needed = [one for one in await deployments.versions() if one.use is Use.OLD and one.open]
    return [
        Check(name="temporal deployment", ok=idle is None, message=idle or fine),
        *[await _served(client, deployment.name, version) for version in needed],
    ]


async def _served(client: Client, name: str, version: Version) -> Check:
    build = Deployment(name=name, build_id=version.build_id)
    missing = [pool for pool in Pool if not await workers(client, pool, build)]
    found = f"{version.open} under way on it"
    advice = f"no worker of pool {' or '.join(missing)} has its build; start it, or `standfast deploy drain --move`"
    message = f"{found}, but {advice}" if missing else found
    return Check(name=f"temporal deployment build {version.build_id}", ok=not missing, message=message)
