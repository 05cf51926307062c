"""What a change of constraints would have decided for plans that were made: assessed again, before and after it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial

from standfast.context import Context
from standfast.domain import Record
from standfast.errors import ServiceUnavailable
from standfast.report import SafetyReport, Verdict
from standfast.safety.activity import playbook_sql, twins
from standfast.safety.constraints import Constraints
from standfast.safety.grounding import Ground
from standfast.safety.validation import Circumstances, assess
from standfast.settings import Settings
from standfast.store.connections import server_time
from standfast.store.databases import Databases, Role
from standfast.view import TicketView


class Difference(Record):
    """A ticket whose plan the change would judge differently."""

    workflow_id: str
    before: Verdict
    after: Verdict
    why: tuple[str, ...]
    """What speaks against the plan under one of the two and not under the other, as `rule: message`."""


class Preview(Record):
    """What a change would have decided. All plans were rehearsed on the rows of now, and rolled back."""

    assessed: int
    before: dict[Verdict, int]
    """Tickets by their verdict under the present constraints."""
    after: dict[Verdict, int]
    """The same under the changed ones."""
    differences: tuple[Difference, ...]
    unavailable: tuple[str, ...]
    """Tickets whose rows were busy."""


async def preview(
    views: Iterable[TicketView], present: Constraints, changed: Constraints, databases: Databases, settings: Settings
) -> Preview:
    """Assess the plans of tickets of one target by both constraints.

    Left out are tickets without a plan, and those that take another one back: what they do follows from the rows then.

    Raises:
        NotPermitted: this process has no URL of the target's rehearser.
        ServiceUnavailable: the target can't be reached.
    """
    known_sql = playbook_sql(settings)
    async with databases.target(present.target, Role.REHEARSER) as connection:
        now = await server_time(connection)
    pairs: dict[str, tuple[SafetyReport, SafetyReport]] = {}
    unavailable = []
    for view in views:
        if view.context is None or view.plan is None or view.ticket.undo_of is not None:
            continue
        before, after = (_circumstances(view.context, one, now, known_sql) for one in (present, changed))
        open_twins = partial(twins, databases, present.target)
        try:
            pairs[view.workflow_id] = (
                (await assess(view.plan, before, open_twins)).report,
                (await assess(view.plan, after, open_twins)).report,
            )
        except ServiceUnavailable:
            unavailable.append(view.workflow_id)
    return Preview(
        assessed=len(pairs),
        before=dict(Counter(before.verdict for before, _ in pairs.values())),
        after=dict(Counter(after.verdict for _, after in pairs.values())),
        differences=tuple(_differences(pairs)),
        unavailable=tuple(unavailable),
    )


def _circumstances(
    context: Context, constraints: Constraints, now: datetime, known_sql: frozenset[str]
) -> Circumstances:
    return Circumstances(
        target=constraints.target,
        constraints=constraints,
        ground=Ground.of(context.ticket, context),
        now=now,
        playbook_sql=known_sql,
        ticket=context.ticket,
    )


def _differences(pairs: Mapping[str, tuple[SafetyReport, SafetyReport]]) -> Iterator[Difference]:
    for workflow_id, (before, after) in pairs.items():
        if before.verdict is not after.verdict:
            yield Difference(
                workflow_id=workflow_id, before=before.verdict, after=after.verdict, why=_why(before, after)
            )


def _why(before: SafetyReport, after: SafetyReport) -> tuple[str, ...]:
    """Return the findings of the worse report that make it worse than the other."""
    worse = Verdict.worst((before.verdict, after.verdict))
    findings = (before if worse is before.verdict else after).all_findings
    return tuple(dict.fromkeys(f"{f.rule}: {f.message}" for f in findings if f.verdict is worse))
