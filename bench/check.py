"""`standfast check`: the whole safety report of a plan, as often as it is asked for, on new connections each time.

Three statements on the sample shop, of which one fires a trigger: parsed, judged, rehearsed twice, taken back once. In
the process means from the call to the report; the command's figure is that of a whole process, Python's start included.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from temporalio.client import Client

from bench.installation import ROOT, TARGET, Services
from bench.report import Machine, Report, Table, percentile
from standfast.local.shop import load_shop
from standfast.plan import Operation, Plan
from standfast.report import Verdict
from standfast.safety.check import check
from standfast.safety.constraints import Constraints, parse_constraints

PLAN = Plan(
    summary="Cancel an order, unlock its customer, and say so",
    operations=(
        Operation(sql="UPDATE shop.orders SET status = $1 WHERE id = $2", params=("cancelled", 1010)),
        Operation(sql="UPDATE shop.customers SET locked = false, failed_logins = 0 WHERE id = $1", params=(5,)),
        Operation(
            sql="INSERT INTO shop.support_history (customer_id, text) VALUES ($1, $2)", params=(5, "Order cancelled.")
        ),
    ),
)
_CONSTRAINTS = files("standfast.local.shop") / "constraints.yaml"
_FIRST = 5  # runs that are not measured


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    checks: int = 200
    commands: int = 20


QUICK = Size(checks=3, commands=1)


async def run(size: Size) -> Report:
    """Measure, and return what was found."""
    async with Services.start() as services:
        await services.postgres.create_database(TARGET)
        url = services.postgres.url(TARGET)
        await load_shop(url)
        constraints = parse_constraints(_CONSTRAINTS.read_text("utf-8"), source="constraints.yaml")
        in_process = await _times(lambda: _check(url, constraints), size.checks)
        plan = services.folder / "plan.json"
        plan.write_text(json.dumps(PLAN.model_dump()), "utf-8")
        commands = await _times(lambda: _command(plan, url), size.commands)
        machine = await Machine.describe(await Client.connect(await services.temporal("temporal")), url)
    rows = [
        (name, *(percentile(times, percent) for percent in (50, 95, 99)))
        for name, times in (("in the process", in_process), ("the command", commands))
    ]
    return Report(
        benchmark="check",
        machine=machine,
        setting=f"{size.checks} checks in the process, {size.commands} commands, one after another",
        figures={"check p50, ms": percentile(in_process, 50) or 0.0},
        tables=(Table(title="A safety report, ms", columns=("how", "p50", "p95", "p99"), rows=tuple(rows)),),
    )


async def _times(do: Callable[[], Awaitable[None]], count: int) -> list[float]:
    """Return milliseconds."""
    times = []
    for _ in range(_FIRST + count):
        began = time.perf_counter()
        await do()
        times.append(1000 * (time.perf_counter() - began))
    return times[_FIRST:]


async def _check(url: str, constraints: Constraints) -> None:
    report = await check(PLAN, url=url, target=TARGET, schemas=(TARGET,), constraints=constraints, ticket=None)
    if report.verdict is not Verdict.AUTO or not report.undo_proved:
        raise RuntimeError(f"the plan is judged {report.verdict}: {report.all_findings}")


async def _command(plan: Path, url: str) -> None:
    arguments = ("check", str(plan), "--database", url, "--constraints", str(_CONSTRAINTS))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "standfast.cli", *arguments, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL
    )
    if await process.wait() != 0:
        raise RuntimeError(f"standfast check ended with {process.returncode}")
