"""The safety report: what a plan would do, measured, and what speaks against it."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from standfast.domain import Record, digest
from standfast.plan import Operation


class Verdict(StrEnum):
    """What may happen with a plan or an operation, from best to worst."""

    AUTO = "auto"
    """May run with nobody looking."""
    APPROVAL = "approval"
    """Needs a person, who sees the measured effect."""
    BLOCK = "block"
    """May never run, not even with approval."""

    @classmethod
    def worst(cls, verdicts: Iterable["Verdict"]) -> "Verdict":
        """Return the worst of `verdicts`, `auto` if there is none."""
        order = list(cls)
        return max(verdicts, key=order.index, default=cls.AUTO)


class Finding(Record):
    """One thing that a rule has to say about an operation or a plan."""

    rule: str
    """The rule's id, such as `rows.limit`."""
    verdict: Verdict
    message: str
    """What was found, with the value that tripped the rule."""
    evidence: dict[str, Any] = Field(default_factory=dict)
    mendable: bool = False
    """True if the agent may mend it by planning again: a typing error is mendable, a forbidden table is not."""


class RowChange(Record):
    """One row before and after an operation, as measured in the rehearsal."""

    table: str
    """`schema.table`; for a partitioned table its root."""
    key: dict[str, Any]
    """The primary key; empty if the table has none."""
    before: dict[str, Any] | None
    """The changed columns (all columns of a deleted row); None for an inserted row."""
    after: dict[str, Any] | None
    """The changed columns (all columns of an inserted row); None for a deleted row."""
    via: str
    """`statement`, `cascade` or `trigger`: what changed the row."""


class RowCounts(Record):
    """Rows of one table that an operation changes, whether or not their images are kept."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    @property
    def total(self) -> int:
        """All rows changed."""
        return self.inserted + self.updated + self.deleted


class OperationReport(Record):
    """The report on one operation."""

    index: int
    verdict: Verdict
    kind: str
    """The statement's kind, such as `update`; `unknown` if it could not be parsed."""
    findings: tuple[Finding, ...] = ()
    rows: tuple[RowChange, ...] = ()
    counts: dict[str, RowCounts] = Field(default_factory=dict)
    truncated: bool = False
    """True if more rows change than `rows` shows."""
    locks: dict[str, str] = Field(default_factory=dict)
    """The strongest lock on each table that would be held by then, until the whole plan is executed."""
    sequences: tuple[str, ...] = ()
    """Sequences whose values were used up; a rehearsal doesn't give them back."""
    seconds: float = 0.0
    """How long the statement ran in the rehearsal."""


class UndoStep(StrEnum):
    """One of the three things that put rows back."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


class Undo(Record):
    """The operations that would take the plan back."""

    operations: tuple[Operation, ...] = ()
    """As they would be for the rows of now; none if the plan changes no row, and none if it can't be taken back or they
    are too long to be shown: then the remarks say so."""
    order: tuple[UndoStep, ...] = ()
    """In which order they were proved."""
    left: tuple[str, ...] = ()
    """Tables that are left to their triggers."""
    remarks: tuple[str, ...] = ()
    """What stays different all the same, or why the plan can't be taken back."""
    forbidden: bool = False
    """True if it could be taken back, but the target's constraints leave no right to do so."""


class Reminder(Record):
    """What happens while nobody decides: people are reminded, and others may approve, too."""

    after: Annotated[timedelta, Field(gt=timedelta())]
    """How long it has waited then."""
    approvers: tuple[str, ...] = ()
    """Patterns of who may approve from then on, whatever the scopes say; none: nobody else."""


class SafetyReport(Record):
    """What a plan would do and what speaks against it. The verdict is the worst of all findings."""

    verdict: Verdict
    plan_digest: str
    fingerprint: str
    """SHA-256 over all changed rows, before and after, and their counts; differs once the effect would be another."""
    volatile: tuple[str, ...] = ()
    """Columns, `schema.table.column`, whose new values differ each time: of sequences and clocks. They don't count."""
    rehearsed_at: datetime
    """By the target's clock."""
    operations: tuple[OperationReport, ...] = ()
    findings: tuple[Finding, ...] = ()
    """About the plan as a whole."""
    undo: Undo | None = None
    """None if the plan was not rehearsed."""
    undo_proved: bool = False
    """True if the undo ran after the plan in the rehearsal, and all rows were as before then."""
    approvals_required: int = 1
    """How many different people must approve, if the verdict is `approval`."""
    approver_scopes: tuple[tuple[str, ...], ...] = ()
    """Who may: each of them must fit one of the patterns of every scope."""
    expires_in: timedelta = timedelta(days=3)
    """How long it may wait for them."""
    reminders: tuple[Reminder, ...] = ()
    """What happens until then, the earliest first."""

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        """Findings about the plan, then about each operation in order."""
        return self.findings + tuple(f for o in self.operations for f in o.findings)

    @property
    def judgement(self) -> str:
        """What is another one once rules object that did not, or more or other people have to approve: 16 digits."""
        said = self.model_dump(mode="json", include={"verdict", "approvals_required", "approver_scopes", "undo_proved"})
        findings = sorted({(finding.rule, finding.verdict.value) for finding in self.all_findings})
        return digest(said | {"findings": findings})[:16]

    def effect(self, target: str) -> str:
        """Return what the plan would do to `target`, in one sentence."""
        return effect_sentence((operation.counts for operation in self.operations), target)


class Danger(StrEnum):
    """How much harm a waiting plan could do; those that could do more are looked at first."""

    LASTING = "lasting"
    """It can't be taken back."""
    DELETING = "deleting"
    """It deletes rows, and can be taken back."""
    ORDINARY = "ordinary"

    @classmethod
    def of(cls, report: SafetyReport) -> "Danger":
        """Return what a plan with this report is."""
        if not report.undo_proved:
            return cls.LASTING
        return cls.DELETING if deleted_rows(report) else cls.ORDINARY


def deleted_rows(report: SafetyReport) -> int:
    """Return how many rows the plan deletes, cascades and triggers included."""
    return sum(count.deleted for operation in report.operations for count in operation.counts.values())


def effect_sentence(counts: Iterable[dict[str, RowCounts]], target: str) -> str:
    """Return one sentence, computed from measured counts only.

    >>> effect_sentence([{"public.orders": RowCounts(updated=3)}, {"public.refunds": RowCounts(inserted=1)}], "shop")
    'Updates 3 rows in public.orders, inserts 1 row in public.refunds, deletes nothing, in shop.'
    """
    totals: dict[str, Counter[str]] = {"updated": Counter(), "inserted": Counter(), "deleted": Counter()}
    for by_table in counts:
        for table, count in by_table.items():
            for what, total in totals.items():
                total[table] += getattr(count, what)
    if not any(n for total in totals.values() for n in total.values()):
        return f"Changes nothing in {target}."
    words = {"updated": "updates", "inserted": "inserts", "deleted": "deletes"}
    parts = []
    for what, total in totals.items():
        tables = [f"{n} row{'s' if n != 1 else ''} in {table}" for table, n in sorted(total.items()) if n]
        if tables or what == "deleted":
            parts.append(f"{words[what]} {' and '.join(tables) or 'nothing'}")
    sentence = ", ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}, in {target}."
