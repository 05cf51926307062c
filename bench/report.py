"""What a benchmark says: tables for people, the same as JSON for machines and for the documents, and the machine."""

import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Self

import psycopg
from pydantic import BaseModel, Field
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
from temporalio.client import Client

Cell = str | int | float | None


class Machine(BaseModel):
    """Where the figures come from, and when."""

    processor: str
    cores: int
    memory_gib: float
    system: str
    python: str
    temporalio: str
    temporal_server: str
    postgresql: str
    at: datetime

    @classmethod
    async def describe(cls, temporal: Client, postgres_url: str) -> Self:
        """Return this machine with the servers that were measured."""
        info = await temporal.workflow_service.get_system_info(GetSystemInfoRequest())
        async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
            row = await (await connection.execute("SHOW server_version")).fetchone()
        return cls(
            processor=_processor(),
            cores=os.cpu_count() or 0,
            memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            system=f"{platform.system()} {platform.release()}",
            python=platform.python_version(),
            temporalio=version("temporalio"),
            temporal_server=info.server_version,
            postgresql=str(row[0]).split()[0] if row else "",
            at=datetime.now(UTC).replace(microsecond=0),
        )

    def __str__(self) -> str:
        """Return one line."""
        return (
            f"{self.processor}, {self.cores} cores, {self.memory_gib:.0f} GiB, {self.system}; Python {self.python}, "
            f"temporalio {self.temporalio}, Temporal server {self.temporal_server}, PostgreSQL {self.postgresql}; "
            f"{self.at:%Y-%m-%d}"
        )


class Table(BaseModel):
    """One table."""

    title: str
    columns: tuple[str, ...]
    """The first one names the row."""
    rows: tuple[tuple[Cell, ...], ...]

    def markdown(self) -> str:
        """Return it as the documents show it."""
        lines = [self.columns, tuple("---" if n == 0 else "---:" for n in range(len(self.columns)))]
        lines += [tuple(map(shown, row)) for row in self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class Report(BaseModel):
    """What one benchmark found."""

    benchmark: str
    machine: Machine
    setting: str
    """How it was measured, in one line: sizes, what ran beside it."""
    figures: dict[str, float] = Field(default_factory=dict)
    """What is to be remembered of it."""
    tables: tuple[Table, ...]

    def print(self, console: Console) -> None:
        """Print the tables for people."""
        for table in self.tables:
            drawn = RichTable(title=table.title, box=box.SIMPLE, title_justify="left")
            for number, column in enumerate(table.columns):
                drawn.add_column(column, justify="right" if number else "left")
            for row in table.rows:
                drawn.add_row(*map(shown, row))
            console.print(drawn)
        for name, figure in self.figures.items():
            console.print(f"{name}: {shown(figure)}", style="bold")
        console.print(self.setting, style="dim")
        console.print(str(self.machine), style="dim")


def shown(value: Cell) -> str:
    """Return a cell as people read it: three digits of a number."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"  # noqa: PLR2004
    return str(value)


def median(values: Sequence[float]) -> float | None:
    """Return the median, None of nothing."""
    return statistics.median(values) if values else None


def percentile(values: Sequence[float], percent: int) -> float | None:
    """Return the value that `percent` of all values don't exceed, None of nothing."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
