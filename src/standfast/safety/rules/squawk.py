"""The rule `squawk`."""

import json
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from standfast.report import Finding, Verdict
from standfast.safety.rules.case import Case, Example, Rule

_KINDS = frozenset({"add_column", "add_enum_value", "create_index"})
_SECONDS = 2
# The rehearsal and the execution set both time-outs; both are one transaction, so that nothing is left half done.
_HELD = ("--exclude=require-lock-timeout,require-statement-timeout", "--assume-in-transaction")
_NO_CONFIGURATION = ("--config", "/dev/null")  # not the one of whatever folder this process was started in


class Squawk(Rule):
    """Runs squawk-cli, a few milliseconds each. Comments are left out: they could silence it."""

    id = "squawk"
    verdict = Verdict.APPROVAL
    rationale = (
        "Changes of the schema are read by [squawk](https://squawkhq.com/docs/rules), a linter for migrations. Its "
        "findings are ours, as `squawk.` and its rule; that it could not run is one, too."
    )
    examples = (
        Example(sql="ALTER TABLE shop.orders ADD COLUMN gift text", why="neither rewrites nor reads the table"),
        Example(
            sql="CREATE INDEX IF NOT EXISTS orders_note ON shop.orders (note)",
            finds=Verdict.APPROVAL,
            why="`squawk.require-concurrent-index-creation`: nobody can write meanwhile",
        ),
        Example(
            sql="-- squawk-ignore-file\nCREATE INDEX IF NOT EXISTS orders_note ON shop.orders (note)",
            finds=Verdict.APPROVAL,
            why="a comment can't silence it",
        ),
        Example(
            sql="ALTER TYPE shop.order_status ADD VALUE 'lost'",
            finds=Verdict.APPROVAL,
            why="`squawk.require-enum-value-ordering`: where in the order does it stand?",
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        if case.statement.kind not in _KINDS:
            return
        try:
            problems = _problems(case.statement.bare)
        except (OSError, ValueError, PackageNotFoundError, subprocess.SubprocessError) as error:
            message = f"squawk could not read it ({error}): is squawk-cli installed beside Standfast?"
            yield self.finding(Verdict.APPROVAL, message)
            return
        for problem in problems:
            message = " ".join(filter(None, (problem["message"], problem["help"])))
            yield Finding(rule=f"{self.id}.{problem['rule_name']}", verdict=Verdict.APPROVAL, message=message)


def _problems(text: str) -> list[dict[str, Any]]:
    """Return what squawk has to say about a statement, as its JSON reporter writes it."""
    command: list[str | Path] = [_program(), "--reporter=json", *_HELD, *_NO_CONFIGURATION]
    done = subprocess.run(  # noqa: S603 - a program of our own installation; the statement is only its input
        command, input=text, capture_output=True, encoding="utf-8", env={}, timeout=_SECONDS, check=False
    )
    problems: list[dict[str, Any]] = json.loads(done.stdout)
    return problems


def _program() -> Path:
    """Return where squawk-cli was installed.

    Raises:
        PackageNotFoundError: it is not.
        FileNotFoundError: its package holds no program.
    """
    for file in files("squawk-cli") or ():
        if file.stem == "squawk":
            return Path(str(file.locate()))
    raise FileNotFoundError("squawk-cli holds no program")
