"""What a rule sees, and what a rule is."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from standfast.plan import Operation
from standfast.report import Finding, RowCounts, Verdict
from standfast.safety.constraints import ColumnConstraint, Constraints
from standfast.safety.effect import OperationEffect
from standfast.safety.grammar.statement import Statement, Write
from standfast.safety.resolution import Relation, Resolution
from standfast.ticket import Ticket


@dataclass(frozen=True, kw_only=True)
class Case:
    """One operation, with everything that is known about it."""

    operation: Operation
    statement: Statement
    resolution: Resolution
    constraints: Constraints
    now: datetime
    earlier: tuple[Operation, ...] = ()
    """The operations of the plan that come before it."""
    ticket: Ticket | None = None
    """None where a plan is checked for itself."""
    takes_back: bool = False
    """The ledger made the plan, to put rows back as they were: each by its key, as it was measured."""

    @property
    def relations(self) -> list[Relation]:
        """The known relations that the statement names anywhere."""
        names = self.statement.reads | {write.table for write in self.statement.writes}
        return [self.resolution.relations[name] for name in names if name in self.resolution.relations]

    @property
    def writes(self) -> list[tuple[Write, Relation]]:
        """The writes whose table is known."""
        found = ((write, self.resolution.relations.get(write.table)) for write in self.statement.writes)
        return [(write, relation) for write, relation in found if relation is not None]

    @property
    def named_tables(self) -> frozenset[str]:
        """The tables that the statement names as the ones it writes, or that stand behind a view that it names."""
        return frozenset(table for _, relation in self.writes for table in relation.tables)

    @property
    def kinds(self) -> frozenset[str]:
        """The statement's kind and those of all writes in it: an upsert is an update, too."""
        return frozenset({self.statement.kind, *(write.command for write in self.statement.writes)})

    def meant_by(self, qualifier: str) -> list[Relation] | None:
        """Return the relations that the qualifier of a column stands for; None if it may stand for something else."""
        names = [name for alias, name in self.statement.named if alias == qualifier]
        if not names or qualifier in self.statement.aliases:
            return None
        return [self.resolution.relations[name] for name in names if name in self.resolution.relations]

    def may_mean(self, references: Iterable[tuple[str, ...]], column: ColumnConstraint) -> bool:
        """Tell whether a reference may mean the column: by its name, by `*`, or by the row as a whole."""
        known = self.resolution.relations
        touching = [relation for relation in self.relations if relation.holds(column.table, column.name)]
        rows = {alias for alias, name in self.statement.named if name in known and known[name] in touching}
        rows |= self.statement.aliases
        for parts in references:
            meant = self.meant_by(parts[-2]) if len(parts) > 1 else None
            if meant is not None:
                if parts[-1] in (column.name, "*") and any(relation in touching for relation in meant):
                    return True
            elif column.name in parts or parts[-1] == "*" or parts[-1] in rows:
                return True
        return False

    def counted(self, effect: OperationEffect) -> dict[str, RowCounts]:
        """Return the rows that count: all but those that triggers write where the constraints allow it."""
        return {
            table: counts
            for table, counts in effect.counts.items()
            if table in self.named_tables or not self._may_be_ignored(table, counts, effect)
        }

    def _may_be_ignored(self, table: str, counts: RowCounts, effect: OperationEffect) -> bool:
        """Tell whether triggers alone may have written there, and have taken nothing away."""
        by_cascade = any(
            change.table == table and change.via == "cascade" and change.before is not None for change in effect.rows
        )
        unseen = counts.updated and table in effect.unmeasured
        allowed = self.constraints.table(table).trigger_writes is not None
        return allowed and not by_cascade and not unseen and not counts.deleted


@dataclass(frozen=True, kw_only=True)
class Example:
    """A plan for the sample shop, mostly of one operation: the documents show it, and the tests run it."""

    sql: str
    params: tuple[Any, ...] = ()
    finds: Verdict | None = None
    """The worst verdict of the rule's findings on it; None if the rule says nothing."""
    why: str
    """In a few words: what speaks against it, or why nothing does."""
    constraints: str = ""
    """YAML that is laid over the sample shop's constraints, key by key."""
    setup: str = ""
    """SQL that is run in the shop first, by its owner."""
    operation: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the operation, such as `expect_rows`."""
    earlier: tuple[str, ...] = ()
    """Statements of the plan that come before it."""
    plan: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the plan, such as `declined`."""
    ticket: str = ""
    """What the ticket says; empty to check without one, and so without grounding."""


class Rule:
    """Base of all rules. Both hooks see one operation; what they yield is shown in the report.

    A finding with verdict `auto` is information only. Each module beside this one holds one rule; it is found by being
    there, and its page in the documents and its tests are made of what it says about itself.
    """

    id: ClassVar[str]
    """`subject.problem`; stable, as findings in histories name it."""
    verdict: ClassVar[Verdict]
    """What it finds as a rule."""
    rationale: ClassVar[str]
    """Why it exists, for people who have to live with it: one to three sentences."""
    examples: ClassVar[tuple[Example, ...]] = ()
    """At least one that it finds something in, and one that it lets pass."""

    def before(self, case: Case) -> Iterator[Finding]:
        """Yield what the statement itself gives away, before it is rehearsed; a block here prevents the rehearsal."""
        del case
        yield from ()

    def after(self, case: Case, effect: OperationEffect) -> Iterator[Finding]:
        """Yield what its measured effect gives away."""
        del case, effect
        yield from ()

    def finding(self, verdict: Verdict, message: str, *, mendable: bool = False, **evidence: Any) -> Finding:
        """Return a finding of this rule."""
        return Finding(rule=self.id, verdict=verdict, message=message, mendable=mendable, evidence=evidence)
