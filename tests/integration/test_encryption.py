"""Nothing that a workflow is told, says or fails with can be read in Temporal; all who belong to it can read it."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pytest
import pytest_asyncio
from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload, WorkflowExecution
from temporalio.api.workflowservice.v1 import SignalWorkflowExecutionRequest
from temporalio.client import (
    Client,
    GrpcCompression,
    OutboundInterceptor,
    StartWorkflowInput,
    WithStartWorkflowOperation,
    WorkflowHandle,
    WorkflowUpdateFailedError,
)
from temporalio.client import Interceptor as ClientInterceptor
from temporalio.common import RetryPolicy, WorkflowIDConflictPolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.plugin import SimplePlugin
from temporalio.worker import (
    ExecuteWorkflowInput,
    Interceptor,
    Replayer,
    Worker,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from standfast import client as client_module
from standfast import cluster
from standfast.carried import Start
from standfast.client import Standfast
from standfast.codec.keyring import KeyRing
from standfast.errors import ServiceUnavailable, UnknownTicket
from standfast.outcome import State
from standfast.settings import Encryption, Settings
from standfast.ticket import Ticket
from standfast.workflow import TicketWorkflow
from tests.integration.installation import ENCRYPTION
from tests.processes import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "ana@example.com"
QUEUE = "encryption"
SOON = timedelta(seconds=20)


@activity.defn
async def stumbling(word: str) -> str:
    if activity.info().attempt == 1:
        activity.heartbeat(f"{SECRET} beats")
        raise ApplicationError(f"{SECRET} failed", f"{SECRET} in detail", type="Stumbled")
    (beat,) = activity.info().heartbeat_details
    return f"{word}; {beat}"


@workflow.defn(name="EncryptionChild", sandboxed=False)
class Child:
    def __init__(self) -> None:
        self._told = ""

    @workflow.run
    async def run(self, word: str) -> str:
        await workflow.wait_condition(lambda: bool(self._told))
        if "fail" in self._told:
            raise ApplicationError(f"{SECRET} gave up", type="GaveUp")
        return f"{word}; {self._told}; {workflow.memo_value('note', type_hint=str)}"

    @workflow.signal
    def tell(self, word: str) -> None:
        self._told = word


@workflow.defn(name="EncryptionParent", sandboxed=False)
class Parent:
    """Uses every way in and out of a workflow."""

    def __init__(self) -> None:
        self._heard: list[str] = []

    @workflow.run
    async def run(self, word: str, rounds: int = 1) -> list[str]:
        await workflow.wait_condition(
            lambda: bool(self._heard), timeout=timedelta(hours=1), timeout_summary=f"{SECRET} waits"
        )
        if rounds:
            workflow.continue_as_new(args=[f"{word}, again", rounds - 1])
        workflow.upsert_memo({"note": f"{SECRET} upserted"})
        workflow.set_current_details(f"{SECRET} at work")
        self._heard.append(
            await workflow.execute_activity(
                stumbling,
                f"{SECRET} asks",
                start_to_close_timeout=SOON,
                heartbeat_timeout=SOON,
                retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=10)),
                summary=f"{SECRET} in short",
            )
        )
        self._heard.append(await self._child("works", f"{SECRET} is told"))
        try:
            await self._child("fails", f"{SECRET} fail")
        except Exception as error:  # noqa: BLE001
            self._heard.append(str(error.__cause__))
        return [word, *self._heard]

    async def _child(self, name: str, told: str) -> str:
        child = await workflow.start_child_workflow(
            Child.run, f"{SECRET} starts", id=f"{workflow.info().workflow_id}/{name}", memo={"note": f"{SECRET} noted"}
        )
        await workflow.get_external_workflow_handle_for(Child.run, child.id).signal(Child.tell, told)
        return await child

    @workflow.signal
    def hear(self, word: str) -> None:
        self._heard.append(word)

    @workflow.update
    async def add(self, word: str) -> str:
        self._heard.append(word)
        return f"{word} was added"

    @add.validator
    def _check(self, word: str) -> None:
        if "not" in word:
            raise ApplicationError(f"{SECRET} is refused", type="Refused")

    @workflow.query
    def heard(self, prefix: str) -> list[str]:
        return [f"{prefix} {word}" for word in self._heard]


class Headers(Interceptor, ClientInterceptor):
    """Sends a header with each workflow that is started, and keeps what arrives."""

    arrived: ClassVar[list[Payload]] = []

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:  # noqa: A002
        return _Sends(next)

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:  # noqa: A002
        del input
        return _Arrives


class _Sends(OutboundInterceptor):
    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:  # noqa: A002
        header = pydantic_data_converter.payload_converter.to_payloads([f"{SECRET} in a header"])[0]
        return await super().start_workflow(replace(input, headers={"baggage": header}))


class _Arrives(WorkflowInboundInterceptor):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:  # noqa: A002
        Headers.arrived += input.headers.values()
        return await super().execute_workflow(input)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(temporal_server: str) -> AsyncIterator[Client]:
    settings = Settings(temporal={"address": temporal_server}, encryption=ENCRYPTION)
    client = await cluster.connect(settings, plugins=[SimplePlugin("headers", interceptors=[Headers()])])
    async with Worker(client, task_queue=QUEUE, workflows=[Parent, Child], activities=[stumbling]):
        yield client


async def started(client: Client, rounds: int = 0, queue: str = QUEUE) -> WorkflowHandle[Parent, list[str]]:
    return await client.start_workflow(
        Parent.run,
        args=[f"{SECRET} begins", rounds],
        id=f"encryption-{uuid4().hex[:8]}",
        task_queue=queue,
        memo={"note": f"{SECRET} is new"},
        static_summary=f"{SECRET} summarized",
        static_details=f"{SECRET} detailed",
    )


async def everything(client: Client, handle: WorkflowHandle[Any, Any]) -> bytes:
    """Return what Temporal knows of a workflow, its runs and its children, as it stores it."""
    known = b""
    query = f'WorkflowId STARTS_WITH "{handle.id}"'
    async for found in client.list_workflows(query):
        known += found.raw_info.SerializeToString()
        one = client.get_workflow_handle(found.id, run_id=found.run_id)
        known += (await one.describe()).raw_description.SerializeToString()
        known += b"".join(event.SerializeToString() for event in (await one.fetch_history()).events)
    return known


async def notes(client: Client, workflow_id: str) -> list[str]:
    """Return what the memos of a workflow's runs say, as lists have them."""
    found = client.list_workflows(f'WorkflowId = "{workflow_id}"')
    return [await one.memo_value("note") async for one in found]


async def test_every_way_in_and_out_of_a_workflow_is_encrypted_and_read_again(client: Client) -> None:
    handle = await started(client, rounds=1)
    assert await (await handle.describe()).memo_value("note") == f"{SECRET} is new"
    assert await (await handle.describe()).static_summary() == f"{SECRET} summarized"
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update(Parent.add, f"{SECRET} not")
    assert str(refused.value.__cause__) == f"Refused: {SECRET} is refused"
    await handle.signal(Parent.hear, f"{SECRET} signals")

    again = client.get_workflow_handle_for(Parent.run, handle.id)
    # An update that arrives before the signal is handled belongs to the first run, which keeps nothing for the second.
    await eventually(again.describe, lambda description: description.run_id != handle.first_execution_run_id)
    assert await again.execute_update(Parent.add, f"{SECRET} updates") == f"{SECRET} updates was added"
    assert f"asked {SECRET} updates" in await again.query(Parent.heard, "asked")
    assert await again.result() == [
        f"{SECRET} begins, again",
        f"{SECRET} updates",
        f"{SECRET} asks; {SECRET} beats",
        f"{SECRET} starts; {SECRET} is told; {SECRET} noted",
        f"GaveUp: {SECRET} gave up",
    ]
    await eventually(lambda: notes(client, handle.id), lambda found: f"{SECRET} upserted" in found)

    assert {payload.data.decode() for payload in Headers.arrived} == {f'"{SECRET} in a header"'}

    stored = await everything(client, handle)
    assert SECRET.encode() not in stored
    assert b"test_encryption.py" not in stored, "a stack trace can be read"
    assert stored.count(b"encryption-key-id") > 20


async def test_a_history_replays_only_in_its_own_namespace_and_with_its_keys(client: Client) -> None:
    handle = await started(client)
    await handle.execute_update(Parent.add, "go on")
    await handle.result()
    history = await handle.fetch_history()

    def replayer(namespace: str) -> Replayer:
        return Replayer(workflows=[Parent], namespace=namespace, data_converter=client.data_converter)

    await replayer(client.namespace).replay_workflow(history)
    elsewhere = await replayer("elsewhere").replay_workflow(history, raise_on_replay_failure=False)
    assert elsewhere.replay_failure is not None


async def test_an_update_that_starts_its_workflow_is_encrypted(client: Client) -> None:
    start = WithStartWorkflowOperation(
        Parent.run,
        args=[f"{SECRET} begins", 0],
        id=f"encryption-{uuid4().hex[:8]}",
        task_queue=QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
    )
    await client.execute_update_with_start_workflow(Parent.add, f"{SECRET} adds", start_workflow_operation=start)
    handle = await start.workflow_handle()
    assert f"{SECRET} adds" in await handle.result()
    assert SECRET.encode() not in await everything(client, handle)


# --- payloads that can't be read -------------------------------------------------------------------------------------


class Process:
    """A process with a key file of its own."""

    def __init__(self, address: str, file: Path) -> None:
        self._file = file
        self.settings = Settings(
            temporal={"address": address}, encryption={"file": file}, targets={"shop": {"schemas": ["shop"]}}
        )

    def has(self, ring: KeyRing) -> None:
        self._file.write_text(ring.to_toml())


@pytest.fixture
def serving(temporal_server: str, tmp_path: Path) -> Process:
    return Process(temporal_server, tmp_path / "serving.toml")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't wait long for an answer that can't come."""
    monkeypatch.setattr(client_module, "ANSWER", timedelta(seconds=3))


@pytest.fixture
def asking(temporal_server: str, tmp_path: Path) -> Process:
    return Process(temporal_server, tmp_path / "asking.toml")


@asynccontextmanager
async def tickets_served(process: Process) -> AsyncIterator[None]:
    """Serve the ticket workflow, on a queue that no other test serves."""
    client = await cluster.connect(process.settings)
    async with Worker(client, task_queue=f"{QUEUE}-tickets", workflows=[TicketWorkflow], activities=[]):
        yield


async def submitted(client: Client) -> str:
    """Submit a ticket, whose first activity nobody serves, and return its workflow id."""
    ticket = Ticket(id=f"E-{uuid4().hex[:8]}", body=SECRET, requester=SECRET, target="shop")
    await client.start_workflow(
        TicketWorkflow.run,
        Start(ticket),
        id=ticket.workflow_id,
        task_queue=f"{QUEUE}-tickets",
        task_timeout=timedelta(seconds=2),
    )
    return ticket.workflow_id


async def test_a_ticket_waits_for_a_key_that_its_worker_has_not_and_says_so(
    serving: Process, asking: Process, caplog: pytest.LogCaptureFixture
) -> None:
    old = KeyRing.new()
    new = old.rotated()
    serving.has(old)
    asking.has(new)
    async with tickets_served(serving), Standfast.connect(asking.settings) as standfast:
        workflow_id = await submitted(await cluster.connect(asking.settings))
        missing = f"key '{new.active}', and this process has {old.active}; add that key"
        with pytest.raises(
            ServiceUnavailable, match=f"{workflow_id} stands still, its worker fails on it: .*{missing}"
        ):
            await standfast.view(workflow_id)
        assert missing in caplog.text
        assert SECRET not in caplog.text

        serving.has(new)

        await eventually(
            lambda: standfast.history(workflow_id),
            lambda entries: any(entry.what.startswith("workflow went on") for entry in entries),
        )
        assert (await standfast.view(workflow_id)).ticket.body == SECRET
        await (await cluster.connect(asking.settings)).get_workflow_handle(workflow_id).terminate()


async def test_a_payload_of_another_ticket_stops_a_ticket_and_is_named(
    serving: Process, caplog: pytest.LogCaptureFixture
) -> None:
    serving.has(KeyRing.new())
    client = await cluster.connect(serving.settings)
    async with tickets_served(serving), Standfast.connect(serving.settings) as standfast:
        mine, other = await submitted(client), await submitted(client)
        assert (await standfast.view(mine)).state is State.GATHERING
        stolen = (await client.get_workflow_handle(other).fetch_history()).events[0]
        await client.workflow_service.signal_workflow_execution(
            SignalWorkflowExecutionRequest(
                namespace=client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=mine),
                signal_name="decide",
                input=stolen.workflow_execution_started_event_attributes.input,
            )
        )
        refused = f"payload of {mine} .* is refused: it belongs to {other} of namespace default"
        with pytest.raises(ServiceUnavailable, match=f"{mine} stands still, its worker fails on it: a {refused}"):
            await standfast.view(mine)
        assert re.search(refused, caplog.text)
        for workflow_id in (mine, other):
            await client.get_workflow_handle(workflow_id).terminate()


async def test_a_ticket_from_before_encryption_goes_on_where_plain_payloads_are_accepted(serving: Process) -> None:
    plain = serving.settings.model_copy(update={"encryption": Encryption(enabled=False)})
    workflow_id = await submitted(await cluster.connect(plain))
    serving.has(KeyRing.new())
    lenient = serving.settings.encryption.model_copy(update={"accept_plain": True})
    serving.settings = serving.settings.model_copy(update={"encryption": lenient})
    async with tickets_served(serving), Standfast.connect(serving.settings) as standfast:
        assert (await standfast.view(workflow_id)).ticket.body == SECRET
        assert next(entry.what for entry in await standfast.history(workflow_id)) == "ticket workflow started"
    await (await cluster.connect(serving.settings)).get_workflow_handle(workflow_id).terminate()


async def test_a_payload_that_was_forged_without_a_key_stops_a_ticket_and_is_named(serving: Process) -> None:
    serving.has(KeyRing.new())
    client = await cluster.connect(serving.settings)
    forger = await cluster.connect(serving.settings.model_copy(update={"encryption": Encryption(enabled=False)}))
    async with tickets_served(serving), Standfast.connect(serving.settings) as standfast:
        workflow_id = await submitted(client)
        assert (await standfast.view(workflow_id)).state is State.GATHERING
        await forger.get_workflow_handle(workflow_id).signal("decide", {"verdict": "approve"})
        with pytest.raises(ServiceUnavailable, match=f"payload of {workflow_id} .* is refused: it is not encrypted"):
            await standfast.view(workflow_id)
        await client.get_workflow_handle(workflow_id).terminate()


async def test_what_is_no_ticket_is_told_apart_though_its_answer_is_encrypted(
    client: Client, temporal_server: str
) -> None:
    handle = await started(client)
    settings = Settings(temporal={"address": temporal_server}, encryption=ENCRYPTION)
    async with Standfast.connect(settings) as standfast:
        with pytest.raises(UnknownTicket, match=f"{handle.id} is no ticket, but a workflow of type EncryptionParent"):
            await standfast.view(handle.id)
    await handle.terminate()


@pytest.mark.parametrize(("enabled", "compression"), [(True, GrpcCompression.NONE), (False, GrpcCompression.GZIP)])
async def test_nobody_tries_to_compress_what_is_encrypted(
    serving: Process, enabled: bool, compression: GrpcCompression
) -> None:
    serving.has(KeyRing.new())
    encryption = serving.settings.encryption.model_copy(update={"enabled": enabled})
    client = await cluster.connect(serving.settings.model_copy(update={"encryption": encryption}))
    assert client.service_client.config.grpc_compression is compression
