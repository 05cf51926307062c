"""`scripts/bench`: run benchmarks, print their tables, and keep them as JSON."""

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bench import batch, check, codec, documents, inbox, latency, pipeline, recovery
from bench.report import Report

Run = Coroutine[Any, Any, Report]
keep = click.option("--json", "file", type=click.Path(path_type=Path), help="Write the report to this file, too.")
quick = click.option("--quick", is_flag=True, help="Sizes that tell whether it works, not how fast it is.")


@click.group(invoke_without_command=True)
@click.pass_context
def bench(context: click.Context) -> None:
    """Benchmarks on real services of their own. Leave the machine alone meanwhile.

    Without a command all of them run, and docs/benchmarks.md is written.
    """
    logging.basicConfig(level=logging.ERROR)
    if context.invoked_subcommand is None:
        documents.RESULTS.mkdir(exist_ok=True)
        for benchmark in documents.BENCHMARKS:
            _report(benchmark.run(benchmark.Size()), documents.RESULTS / f"{documents.name(benchmark)}.json")
        documents.DOCUMENT.write_text(documents.text(), "utf-8")


@bench.command(name="recovery")
@keep
@quick
def recovery_(file: Path | None, *, quick: bool) -> None:
    """Kill -9 of a worker at each step, our time-outs beside the SDK's."""
    _report(recovery.run(recovery.QUICK if quick else recovery.Size()), file)


@bench.command(name="pipeline")
@keep
@quick
@click.option("--tickets", default=10_000, help="How far the tickets grow in the last part.")
def pipeline_(file: Path | None, *, quick: bool, tickets: int) -> None:
    """Throughput and latency beside a bare Temporal workflow; cost as tickets grow."""
    grown = tuple(n for n in pipeline.Size().growth if n < tickets)
    _report(pipeline.run(pipeline.QUICK if quick else pipeline.Size(growth=(*grown, tickets))), file)


@bench.command(name="latency")
@keep
@quick
def latency_(file: Path | None, *, quick: bool) -> None:
    """Starting a ticket, reacting to a decision, and idling, while 1,000 and 10,000 tickets wait."""
    _report(latency.run(latency.QUICK if quick else latency.Size()), file)


@bench.command(name="inbox")
@keep
@quick
@click.option("--tickets", default=10_000, help="How many wait.")
def inbox_(file: Path | None, *, quick: bool, tickets: int) -> None:
    """The inbox while 10,000 tickets wait: each filter, page after page, and several people who have it open."""
    _report(inbox.run(inbox.QUICK if quick else inbox.Size(waiting=tickets)), file)


@bench.command(name="check")
@keep
@quick
def check_(file: Path | None, *, quick: bool) -> None:
    """The safety report of a plan of three statements."""
    _report(check.run(check.QUICK if quick else check.Size()), file)


@bench.command(name="codec")
@keep
@quick
def codec_(file: Path | None, *, quick: bool) -> None:
    """What encryption costs, for a payload and on the pipeline."""
    _report(codec.run(codec.QUICK if quick else codec.Size()), file)


@bench.command(name="batch")
@keep
@quick
@click.option("--tickets", default=10_000, help="Of the largest batch.")
def batch_(file: Path | None, *, quick: bool, tickets: int) -> None:
    """Batches of 1,000 and 10,000 tickets: speed of each tenth, histories of the workflow, and every ticket proved."""
    smaller = tuple(n for n in batch.Size().tickets if n < tickets)
    _report(batch.run(batch.QUICK if quick else batch.Size(tickets=(*smaller, tickets))), file)


@bench.command()
def docs() -> None:
    """Write docs/benchmarks.md from the reports in bench/results."""
    documents.DOCUMENT.write_text(documents.text(), "utf-8")


def _report(run: Run, file: Path | None) -> None:
    report = asyncio.run(run)
    report.print(Console())
    if file is not None:
        file.write_text(report.model_dump_json(indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    bench(prog_name="scripts/bench")
