"""docs/benchmarks.md, made of what the benchmarks said last. Nobody types a figure."""

import inspect
from pathlib import Path
from types import ModuleType

from bench import batch, check, codec, inbox, latency, pipeline, recovery
from bench.installation import ROOT
from bench.report import Report, shown

RESULTS = ROOT / "bench" / "results"
DOCUMENT = ROOT / "docs" / "benchmarks.md"
BENCHMARKS: tuple[ModuleType, ...] = (recovery, pipeline, batch, latency, inbox, check, codec)
_INTRODUCTION = """\
# Benchmarks

Made by `scripts/bench`, which runs everything (about an hour; leave the machine alone meanwhile) and writes this page.
`scripts/bench recovery`, `pipeline`, `batch`, `latency`, `inbox`, `check` or `codec` runs one; `--quick` tells whether
it works, not how fast it is; `--json FILE` keeps the figures. Everything runs on real servers: Temporal, PostgreSQL,
worker processes.
"""


def name(benchmark: ModuleType) -> str:
    """Return what a benchmark is called."""
    return benchmark.__name__.rpartition(".")[2]


def text() -> str:
    """Return the document."""
    sections = [_section(benchmark, RESULTS / f"{name(benchmark)}.json") for benchmark in BENCHMARKS]
    return "\n".join([_INTRODUCTION, *filter(None, sections)])


def _section(benchmark: ModuleType, file: Path) -> str:
    if not file.exists():
        return ""
    report = Report.model_validate_json(file.read_bytes())
    parts = [f"## {report.benchmark.title()}", inspect.getdoc(benchmark) or ""]
    parts += [f"- {figure}: **{shown(value)}**" for figure, value in report.figures.items()]
    for table in report.tables:
        parts += [f"### {table.title}", table.markdown()]
    parts += [f"{report.setting}. {report.machine}."]
    return _joined(parts)


def _joined(parts: list[str]) -> str:
    """Put an empty line between paragraphs, but none between the items of a list."""
    lines = ""
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        lines += f"{part}\n" if part.startswith("- ") and following.startswith("- ") else f"{part}\n\n"
    return lines.rstrip() + "\n"
