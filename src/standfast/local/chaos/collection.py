"""Collecting the evidence: histories from Temporal, rows from the databases, replays in a process of their own."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain

from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.converter import PayloadCodec
from temporalio.service import RPCError, RPCStatusCode

from standfast import cluster
from standfast.codec.reading import failures, reveal
from standfast.errors import ServiceUnavailable
from standfast.local import configuration
from standfast.local.chaos import histories
from standfast.local.chaos.evidence import Evidence, LedgerRow, Period, RecordedCall, Submitted
from standfast.local.chaos.histories import History
from standfast.local.chaos.injection import Injected
from standfast.local.chaos.people import Progress
from standfast.local.fake_provider import Exchange
from standfast.local.home import Home
from standfast.local.sample import TARGET
from standfast.settings import Settings
from standfast.steps import Pool
from standfast.store.connections import Connection
from standfast.store.databases import Databases, Role
from standfast.store.observing import observing
from standfast.store.sql import statements
from standfast.verification.verify import verify

_SQL = statements(__package__, "evidence.sql")
_AT_ONCE = 8  # histories that are read at the same time
_REPLAY = (sys.executable, "-P", "-m", "standfast.local.chaos.replay")


async def collect(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    submitted: Sequence[Progress],
    injected: Sequence[Injected],
    exchanges: Sequence[Exchange],
) -> Evidence:
    """Return what the run has left behind; `environment` is the llm pool's."""
    client = await cluster.connect(settings)
    found: list[History] = []
    for first in range(0, len(submitted), _AT_ONCE):
        some = submitted[first : first + _AT_ONCE]
        found += chain.from_iterable(await asyncio.gather(*(_histories(client, p.ticket.workflow_id) for p in some)))
    replaying = asyncio.create_task(_replay(settings, environment, [history.workflow_id for history in found]))
    async with Databases(settings, application="standfast chaos") as databases:
        async with databases.target(TARGET, Role.WRITER) as shop:
            async with observing(shop):  # the writer itself may not read all of the shop
                rows = await (await shop.execute(_SQL["rows"])).fetchall()
            ledger = await (await shop.execute(_SQL["ledger"])).fetchall()
        async with databases.control() as control:
            calls = await _calls(control, client.data_converter.payload_codec)
    return Evidence(
        submitted=[Submitted(ticket=p.ticket, outcome=p.outcome, trouble=p.trouble) for p in submitted],
        histories=found,
        ledger=[LedgerRow(**row) for row in ledger],
        rows=Counter(tuple(row.values()) for row in rows),
        calls=calls,
        exchanges=exchanges,
        faults=[Period(fault=i.fault, began=i.at, ended=i.ended_at) for i in injected],
        replayed=await replaying,
        verified=await verify(settings, on_progress=lambda _: None),
    )


async def _histories(client: Client, workflow_id: str) -> list[History]:
    """Return the history of a ticket and those of its planners."""
    found: list[History] = []
    pending = [workflow_id]
    while pending:
        current = pending.pop()
        try:
            events = (await client.get_workflow_handle(current).fetch_history()).events
            await reveal(failures(events), client.data_converter)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                continue  # it was never started: a planner that its ticket's end overtook
            raise
        found.append(histories.read(current, events))
        pending += found[-1].children
    return found


async def _calls(control: Connection, codec: PayloadCodec | None) -> list[RecordedCall]:
    rows = await (await control.execute(_SQL["calls"])).fetchall()
    answers = [Payload.FromString(row["answer"]) for row in rows]
    if codec is not None:
        answers = await codec.decode(answers)
    return [
        RecordedCall(
            workflow_id=row["workflow_id"],
            activity_id=row["activity_id"],
            answer_id=json.loads(answer.data).get("provider_response_id") or "",
            recorded_at=row["recorded_at"],
        )
        for row, answer in zip(rows, answers, strict=True)
    ]


async def _replay(settings: Settings, environment: Mapping[str, str], workflow_ids: Sequence[str]) -> dict[str, str]:
    document = configuration.pool(settings, Pool.LLM)
    file = Home(settings.home).write("config/replay.toml", configuration.to_toml(document))
    process = await asyncio.create_subprocess_exec(
        *_REPLAY,
        env={**environment, "STANDFAST_CONFIG": str(file)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await process.communicate(json.dumps(workflow_ids).encode())
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        raise ServiceUnavailable(f"the histories can't be replayed: {errors.decode(errors='replace')[-2000:]}")
    found: dict[str, str] = json.loads(output.splitlines()[-1])  # before it, the Temporal client may have warned
    return found
