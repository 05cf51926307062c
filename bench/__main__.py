"""`scripts/bench`: run a benchmark, print its tables, and keep them as JSON if asked to."""

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bench import pipeline
from bench.report import Report

Run = Coroutine[Any, Any, Report]
keep = click.option("--json", "file", type=click.Path(path_type=Path), help="Write the report to this file, too.")
quick = click.option("--quick", is_flag=True, help="Sizes that tell whether it works, not how fast it is.")


@click.group()
def bench() -> None:
    """Benchmarks on real services of their own. Leave the machine alone meanwhile."""
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("standfast.local").setLevel(logging.ERROR)


@bench.command(name="pipeline")
@keep
@quick
@click.option("--tickets", default=10_000, help="How far the tickets grow in the last part.")
def pipeline_(file: Path | None, *, quick: bool, tickets: int) -> None:
    """Throughput and latency beside a bare Temporal workflow; cost as tickets grow."""
    grown = tuple(n for n in (100, 1_000, 10_000) if n < tickets)
    size = pipeline.Size(growth=(*grown, tickets))
    _report(pipeline.run(pipeline.Size(rounds=1, tickets=4, in_flight=2, growth=(4, 8)) if quick else size), file)


def _report(run: Run, file: Path | None) -> None:
    report = asyncio.run(run)
    report.print(Console())
    if file is not None:
        file.write_text(report.model_dump_json(indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    bench(prog_name="scripts/bench")
