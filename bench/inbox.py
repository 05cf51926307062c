"""How long the inbox takes while many tickets wait: unfiltered, by each filter, and from page to page.

The dashboard runs in a process of its own, and a page's time is from the request to its last byte. What waits are
workflows that no worker runs, with the search attributes and the memo that a ticket's own workflow would have
published: the inbox reads nothing else, and asks no workflow. Their rows are noted in the control database as
validation would, each with those of one other ticket.
"""

import asyncio
import random
import re
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from html import unescape

import httpx

from bench.cost import cpu_seconds
from bench.installation import TARGET, Installation, Services, program
from bench.report import Machine, Report, Table, percentile
from standfast.dashboard.sessions import new_login_link
from standfast.local import configuration
from standfast.local.ports import free_port
from standfast.report import Danger
from standfast.safety.conflicts import note_rows
from standfast.safety.effect import TableChange
from standfast.settings import Settings
from standfast.store.connections import Connection
from standfast.store.databases import Databases
from standfast.ticket import Ticket
from tests.integration.listed import report, wait_in_vain

_AT_ONCE = 20  # tickets that are started together
_TARGETS = (TARGET, "bank", "stock")
_RULES = ("column.sensitive", "rows.limit", "statement.kind", "table.writes", "value.limit")
_REQUESTERS = 200
_DAYS = 3
_LOOK = 0.5  # seconds between two looks at how many wait
_NEXT = re.compile(r'rel="next" href="([^"]+)"')


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    waiting: int = 10_000
    requests: int = 100
    """Of each kind."""
    viewers: int = 5
    """Who have the inbox open..."""
    watched: float = 30.0
    """...for so many seconds."""


QUICK = Size(waiting=120, requests=3, viewers=2, watched=2.0)


async def run(size: Size) -> Report:
    """Measure, and return what was found."""
    async with Services.start() as services:
        address = await services.temporal("temporal")
        installation = await Installation.create(services, address, "shop", planner={"agent": "bench.planner:plan"})
        await _fill(installation, size.waiting)
        async with _dashboard(installation) as (page, pid):
            times = {kind: await _times(page, kind, size.requests) for kind in _KINDS}
            busy = await _watch(page, size, {"dashboard": pid, "Temporal server": services.pid("temporal")})
        machine = await Machine.describe(installation.temporal, installation.owner_url)
    rows = tuple((kind, percentile(t, 50), percentile(t, 95), max(t)) for kind, t in times.items())
    return Report(
        benchmark="inbox",
        machine=machine,
        setting=f"{size.waiting:,} waiting; {size.requests} requests of a kind, one at a time",
        figures={f"inbox, {kind}, p95 ms": percentile(found, 95) or 0 for kind, found in times.items()},
        tables=(
            Table(title=f"{size.waiting:,} waiting: milliseconds", columns=("page", "p50", "p95", "max"), rows=rows),
            Table(
                title=f"{size.viewers} people have it open, and nothing happens",
                columns=("process", "% of one core"),
                rows=tuple(busy.items()),
            ),
        ),
    )


_KINDS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "all": {},
    "by target": {"target": _TARGETS},
    "by requester": {"requester": [f"person{number}@example.com" for number in range(_REQUESTERS)]},
    "by rule": {"rule": _RULES},
    "by target and rule": {"target": _TARGETS, "rule": _RULES},
    "next page": {},
}


async def _fill(installation: Installation, number: int) -> None:
    """Let so many tickets wait: one in a hundred can't be undone, one in ten deletes rows."""
    chance = random.Random(0)  # noqa: S311 - the same tickets each time
    slots = asyncio.Semaphore(_AT_ONCE)

    async def start(ticket: Ticket, danger: Danger, rules: Sequence[str], waited: timedelta) -> None:
        async with slots:
            await wait_in_vain(installation.temporal, ticket, report(danger, rules=rules), waited=waited)

    work = []
    for n in range(number):
        danger = Danger.LASTING if n % 100 == 0 else Danger.DELETING if n % 10 == 1 else Danger.ORDINARY
        waited = timedelta(days=_DAYS) * chance.random()
        work.append(start(_ticket(n), danger, chance.sample(_RULES, 2), waited))
    await asyncio.gather(*work)
    async with (
        Databases(installation.settings, application="bench") as databases,
        databases.control(autocommit=True) as connection,
    ):
        for n in range(number):
            await _note(connection, _ticket(n), str(n // (2 * len(_TARGETS))))
    narrowed = installation.client.lists.narrowed()
    while await installation.client.lists.waiting_count(narrowed) < number:  # noqa: ASYNC110 - the server counts
        await asyncio.sleep(_LOOK)


async def _note(connection: Connection, ticket: Ticket, key: str) -> None:
    row = {key: "{}"}
    change = TableChange(schema=TARGET, name="orders", key=("id",), columns=(), before=row, after=row, rekeyed=False)
    await note_rows(
        connection,
        target=ticket.target,
        workflow_id=ticket.workflow_id,
        changes=[change],
        waits=timedelta(days=_DAYS),
    )


def _ticket(number: int) -> Ticket:
    return Ticket(
        id=f"T-{number:06}",
        title=f"Please look at order {number}, the parcel has not arrived",
        body="please",
        requester=f"person{number % _REQUESTERS}@example.com",
        target=_TARGETS[number % len(_TARGETS)],
    )


@asynccontextmanager
async def _dashboard(installation: Installation) -> AsyncIterator[tuple[httpx.AsyncClient, int]]:
    """Run the dashboard, and give a signed-in client and the process id."""
    services, settings = installation.services, _settings(installation.settings)
    file = services.folder / "dashboard.toml"
    file.write_text(configuration.to_toml(configuration.dashboard(settings)), "utf-8")
    url = f"http://127.0.0.1:{settings.dashboard.port}"
    async with AsyncExitStack() as stack:
        headers = {"Sec-Fetch-Site": "same-origin"}
        page = await stack.enter_async_context(httpx.AsyncClient(base_url=url, headers=headers, timeout=60))

        async def ready(pid: int) -> bool:
            del pid
            try:
                return (await page.get("/healthz")).is_success
            except httpx.TransportError:
                return False

        supervisor = await stack.enter_async_context(services.supervisor_of("dashboard"))
        command = (sys.executable, "-P", "-m", "standfast.cli", "--config", str(file), "dashboard")
        await supervisor.start(program("dashboard", command, ready=ready))
        async with Databases(settings, application="bench") as databases:
            link = httpx.URL(await new_login_link(databases, url))
        await page.post("/login", data={"token": link.params["token"]})
        yield page, next(status.pid for status in supervisor.status() if status.pid)


def _settings(settings: Settings) -> Settings:
    """Return settings with several targets: the inbox reads none of them."""
    targets = dict.fromkeys(_TARGETS, settings.targets[TARGET])
    dashboard = settings.dashboard.model_copy(update={"port": free_port()})
    return settings.model_copy(update={"targets": targets, "default_target": TARGET, "dashboard": dashboard})


async def _times(page: httpx.AsyncClient, kind: str, requests: int) -> list[float]:
    """Return the milliseconds that each request took."""
    found, address = [], "/"
    for number in range(requests + 1):
        query = {name: values[number % len(values)] for name, values in _KINDS[kind].items()}
        began = time.monotonic()
        answer = await page.get(address, params=query or None)
        found.append(1000 * (time.monotonic() - began))
        answer.raise_for_status()
        if kind == "next page":
            following = _NEXT.search(answer.text)
            address = unescape(following[1]) if following else "/"
    return found[1:]  # the first one found cold caches


async def _watch(page: httpx.AsyncClient, size: Size, pids: Mapping[str, int]) -> dict[str, float]:
    """Return what each process uses while several people have the inbox open."""

    async def follow(events: AsyncIterator[str]) -> None:
        async for _ in events:
            pass

    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(page.stream("GET", "/events")) for _ in range(size.viewers)]
        following = [asyncio.create_task(follow(stream.aiter_lines())) for stream in streams]
        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        await asyncio.sleep(size.watched)
        used = {name: 100 * (cpu_seconds(pid) - before[name]) / size.watched for name, pid in pids.items()}
        await _stopped(following)
    return used


async def _stopped(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
