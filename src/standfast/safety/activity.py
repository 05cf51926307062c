"""The activity of step 4: validate a plan."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from temporalio import activity

from standfast import audit, steps
from standfast.planner.playbooks import load_playbooks
from standfast.report import SafetyReport, Verdict
from standfast.safety.conflicts import note_rows
from standfast.safety.grounding import Ground
from standfast.safety.validation import Circumstances, assess, fingerprint
from standfast.safety.versions import read_latest
from standfast.settings import Settings
from standfast.steps import Rehearsed, RehearseRequest, ValidateRequest
from standfast.store.connections import Connection, server_time
from standfast.store.databases import Databases, Role
from standfast.store.takeover import session_name, take_over
from standfast.ticket import Ticket

_TRIES = 3  # then what runs out of time is too slow by itself


class Validation:
    """Validates plans for the targets in the settings."""

    def __init__(self, databases: Databases, settings: Settings) -> None:
        """Read the playbooks' statements.

        Raises:
            InvalidInput: a playbook file is wrong.
        """
        self._databases = databases
        self._settings = settings
        self._playbook_sql = playbook_sql(settings)

    @activity.defn(name=steps.VALIDATE.name)
    async def validate(self, request: ValidateRequest) -> SafetyReport:
        """Return the safety report of the plan, by the newest constraints of its target, and put its verdict on record.

        Raises:
            UnknownTarget: the settings don't name the ticket's target.
            ServiceUnavailable: the target or the control database can't be reached.
        """
        ticket = request.context.ticket
        circumstances = replace(
            await self._circumstances(ticket),
            ground=Ground.of(ticket, request.context) if request.recalled is None else None,  # the ledger's own values
            recalled=request.recalled,
        )
        assessment = await assess(request.plan, circumstances, partial(twins, self._databases, ticket.target))
        report = assessment.report
        if report.verdict is Verdict.APPROVAL:
            async with self._databases.control() as connection:
                await note_rows(
                    connection,
                    target=ticket.target,
                    workflow_id=ticket.workflow_id,
                    changes=assessment.changes,
                    waits=report.expires_in,
                )
        async with self._databases.control(autocommit=True) as connection:
            await audit.append_step(connection, audit.Kind.VERDICT, content=_recorded(report))
        return report

    @activity.defn(name=steps.REHEARSE.name)
    async def rehearse(self, request: RehearseRequest) -> Rehearsed:
        """Return what a plan that waits would do now. Nothing goes on record, as nobody is asked anything.

        Raises:
            UnknownTarget: the settings don't name the ticket's target.
            ServiceUnavailable: the target or the control database can't be reached, or the rows are busy.
        """
        ticket = request.ticket
        circumstances = await self._circumstances(ticket)
        return Rehearsed(
            plan_digest=request.plan.digest(ticket.target),
            fingerprint=await fingerprint(request.plan, circumstances, partial(twins, self._databases, ticket.target)),
            at=circumstances.now,
        )

    async def _circumstances(self, ticket: Ticket) -> Circumstances:
        """Return what a plan for the ticket is judged by now, whatever the activity; nothing to ground it in."""
        workflow_id = activity.info().workflow_id or ticket.workflow_id
        target = self._settings.target(ticket.target)
        async with self._databases.control(autocommit=True) as connection:
            constraints = await read_latest(connection, ticket.target, target.schemas)
        async with self._databases.target(ticket.target, Role.REHEARSER) as connection:
            if activity.info().attempt > 1:
                await take_over(connection, workflow_id)
            now = await server_time(connection)  # the one clock that all workers share
        return Circumstances(
            target=ticket.target,
            constraints=constraints,
            ground=None,
            now=now,
            playbook_sql=self._playbook_sql,
            solo=self._settings.review.solo,
            expires_in=self._settings.review.expire_after,
            reminders=self._settings.review.reminders,
            patient=activity.info().attempt < _TRIES,
            session=session_name(workflow_id),
            ticket=ticket,
        )


def _recorded(report: SafetyReport) -> dict[str, object]:
    """Return what the audit chain keeps of a report: no values, and no words of others."""
    found: dict[str, list[Verdict]] = {}
    for finding in report.all_findings:
        found.setdefault(finding.rule, []).append(finding.verdict)
    return {
        "verdict": report.verdict,
        "plan_digest": report.plan_digest,
        "fingerprint": report.fingerprint,
        "rules": {rule: Verdict.worst(verdicts) for rule, verdicts in found.items()},
        "approvals_required": report.approvals_required,
    }


def playbook_sql(settings: Settings) -> frozenset[str]:
    """Return the statements of all playbooks, whose own literals are grounded.

    Raises:
        InvalidInput: a playbook file is wrong.
    """
    folder = settings.planner.playbooks
    playbooks = load_playbooks(folder) if folder is not None else ()
    return frozenset(statement.sql for playbook in playbooks for statement in playbook.statements)


@asynccontextmanager
async def twins(databases: Databases, target: str) -> AsyncIterator[tuple[Connection, Connection]]:
    """Two connections to the target as its rehearser, the second one only to look."""
    async with (
        databases.target(target, Role.REHEARSER) as change,
        databases.observer(target, Role.REHEARSER) as observer,
    ):
        yield change, observer
