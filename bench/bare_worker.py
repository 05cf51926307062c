"""A worker of the bare side: `python -m bench.bare_worker POOL FILE`. Its activities send the recorded SQL.

With psycopg as its documentation shows it: a connection pool, `execute`, `fetchall`. Answers are payloads of the size
that ours have, because they are ours, recorded with the SQL.
"""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.adapt import Transformer
from psycopg.pq import Format
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel
from temporalio import activity
from temporalio.client import Client, GrpcCompression
from temporalio.worker import Worker

from bench.bare_workflow import Bare, BareFlat, BarePlanner, Document, queue
from bench.recording import Recording
from standfast import steps
from standfast.steps import Pool

_SNAPSHOT = re.compile(r"(?<=SET TRANSACTION SNAPSHOT ')[^']+")
_JSON_OIDS = (114, 3802)
_ACTIVITIES = 8  # as in standfast.worker


class Instructions(BaseModel):
    """What a bare worker is told."""

    address: str
    urls: dict[str, str]
    """By role."""
    recording: Recording
    answers: dict[str, Document]
    """By step."""


class Steps:
    """The activities."""

    def __init__(
        self, instructions: Instructions, pools: dict[str, AsyncConnectionPool[AsyncConnection[DictRow]]]
    ) -> None:
        self._recording = instructions.recording
        self._script = {
            step: [(sent, [_param(*param) for param in sent.params]) for sent in all_sent]
            for step, all_sent in instructions.recording.steps.items()
        }
        self._answers = instructions.answers
        self._pools = pools

    @activity.defn
    async def gather(self, ticket: Document) -> Document:
        """Read what ours reads."""
        await self._replay("gather", ticket)
        return {**self._answers["gather"], "ticket": ticket}

    @activity.defn
    async def plan(self, context: Document) -> Document:
        """Answer at once."""
        await self._replay("plan", context["ticket"])
        plan: Document = context["ticket"]["metadata"]["plan"]
        return plan

    @activity.defn
    async def validate(self, request: Document) -> Document:
        """Rehearse as ours does."""
        await self._replay("validate", request["context"]["ticket"])
        return self._answers["validate"]

    @activity.defn
    async def execute(self, request: Document) -> Document:
        """Change what ours changes."""
        await self._replay("execute", request["ticket"])
        return self._answers["execute"]

    @activity.defn
    async def conclude(self, request: Document) -> Document:
        """Put on record what ours puts there."""
        await self._replay("conclude", request["ticket"])
        return self._answers["conclude"]

    async def _replay(self, step: str, ticket: Document) -> None:
        info = activity.info()
        (operation,) = ticket["metadata"]["plan"]["operations"]
        values = self._recording.values(ticket["id"], operation["params"], info.workflow_id, info.workflow_run_id)
        values |= {key: key.replace(self._recording.run_id, str(info.workflow_run_id)) for key in self._keys(step)}
        answers: dict[str, Any] = {}
        async with AsyncExitStack() as stack:
            sessions = {
                name: await stack.enter_async_context(self._pools[name].connection())
                for name in self._recording.sessions(step)
            }
            for sent, params in self._script[step]:
                for row in await _send(sessions[sent.session], sent.sql, params, values, answers):
                    answers |= {name: row[name] for name in ("snapshot", "next_xid") if name in row}

    def _keys(self, step: str) -> list[str]:
        """Return the keys of audit rows, which begin with the ticket's run."""
        params = (param for _, all_params in self._script[step] for param in all_params)
        return [param for param in params if isinstance(param, str) and param.startswith(f"{self._recording.run_id}/")]


async def _send(
    connection: AsyncConnection[DictRow], sql: str, params: list[Any], values: dict[Any, Any], answers: dict[str, Any]
) -> list[DictRow]:
    sql = _SNAPSHOT.sub(lambda match: str(answers.get("snapshot", match[0])), sql)
    if "xmin::text" in sql or "xmax::text" in sql:
        params = [answers["next_xid"] if isinstance(param, int) else param for param in params]
    bound = [values.get(param, param) if isinstance(param, str | int) else param for param in params]
    reads = sql.startswith("SELECT")
    cursor = await connection.execute(sql.encode(), bound or None, prepare=None if reads or bound else False)
    return await cursor.fetchall() if cursor.description else []


def _param(oid: int, form: int, value: str | None) -> Any:
    if value is None:
        return None
    loaded = Transformer().get_loader(oid, Format(form)).load(bytes.fromhex(value))
    return Jsonb(loaded) if oid in _JSON_OIDS else loaded


@asynccontextmanager
async def _connected(
    instructions: Instructions,
) -> AsyncIterator[dict[str, AsyncConnectionPool[AsyncConnection[DictRow]]]]:
    async with AsyncExitStack() as stack:
        recording = instructions.recording
        yield {
            session: await stack.enter_async_context(_pool(instructions.urls[session.split()[0]]))
            for session in set().union(*map(recording.sessions, recording.steps))
        }


def _pool(url: str) -> AsyncConnectionPool[AsyncConnection[DictRow]]:
    options = {
        "autocommit": True,  # BEGIN and COMMIT are in the recording
        "row_factory": dict_row,
        "cursor_factory": AsyncRawCursor,
        "options": "-c search_path=shop,pg_temp",
    }
    connection = AsyncConnection[DictRow]
    return AsyncConnectionPool(url, connection_class=connection, kwargs=options, min_size=0, max_size=16, open=False)


async def main(pool: Pool, instructions: Instructions) -> None:
    """Serve the bare pool until the process is ended."""
    client = await Client.connect(instructions.address, grpc_compression=GrpcCompression.NONE)  # as ours
    async with _connected(instructions) as pools:
        served = Steps(instructions, pools)
        by_pool: dict[Pool, tuple[list[type], list[Any]]] = {
            Pool.CORE: ([Bare, BareFlat], [served.gather, served.validate, served.conclude]),
            Pool.LLM: ([BarePlanner], [served.plan]),
            Pool.DATABASE: ([], [served.execute]),
        }
        workflows, activities = by_pool[pool]
        bare = Worker(
            client,
            task_queue=queue(pool),
            workflows=workflows,
            activities=activities,
            max_concurrent_activities=_ACTIVITIES,
            sticky_queue_schedule_to_start_timeout=steps.STICKY_QUEUE,
        )
        await bare.run()


if __name__ == "__main__":
    asyncio.run(main(Pool(sys.argv[1]), Instructions.model_validate_json(Path(sys.argv[2]).read_bytes())))
