"""Tickets and safety reports as text for people."""

from collections.abc import Sequence

from standfast.cli.output import Output, moment
from standfast.outcome import Outcome
from standfast.plan import Plan
from standfast.report import OperationReport, RowChange, SafetyReport, Undo, Verdict
from standfast.view import TicketView

_STYLES = {Verdict.AUTO: "green", Verdict.APPROVAL: "yellow", Verdict.BLOCK: "red"}
_CONFLICTS = 5  # are named; `--json` has more
_ROWS = 10  # of an operation; `--json` has all that the report has


def ticket_page(view: TicketView, conflicts: Sequence[str], output: Output) -> None:
    """Print one ticket whole."""
    ticket = view.ticket
    output.line(f"{view.workflow_id}  {view.state}", "bold")
    output.line(f"{ticket.title or '(no title)'}, from {ticket.requester}")
    for line in ticket.body.splitlines():
        output.line(f"  | {line}")
    if view.plan is not None:
        output.line(f"\nPlan {view.plan_number}", "bold")
        output.line(f"the agent says: {view.plan.summary}" if view.plan.summary else "without a summary")
        if view.report is not None:
            report_page(view.plan, view.report, ticket.target, output)
    for other in conflicts[:_CONFLICTS]:
        again = "once one is executed, the other is asked about again"
        output.line(f"{other} waits with a plan for some of the same rows: {again}", "yellow")
    if len(conflicts) > _CONFLICTS:
        output.line(f"and at least {len(conflicts) - _CONFLICTS} more tickets", "yellow")
    for decision in view.decisions:
        how = f"refused, {decision.message}" if decision.refused else "counts"
        comment = f": {decision.comment}" if decision.comment else ""
        output.line(f"{moment(decision.at)}  {decision.verdict} by {decision.by} ({how}){comment}")
    if view.outcome is not None:
        outcome_line(view.workflow_id, view.outcome, output)
    elif view.report is not None and view.state == "waiting":
        seen = f"{view.report.plan_digest[:12]}.{view.report.fingerprint[:12]}"
        output.line(f"\nTo approve:  standfast approve {view.workflow_id} --digest {seen}", "bold")


def report_page(plan: Plan, report: SafetyReport, target: str, output: Output) -> None:
    """Print what a plan would do, and what speaks against it."""
    output.line(f"verdict: {report.verdict}", f"bold {_STYLES[report.verdict]}")
    output.line(report.effect(target))
    output.line(f"plan {report.plan_digest[:12]}, rehearsed {moment(report.rehearsed_at)}")
    for finding in report.findings:
        output.line(f"  {finding.verdict:<8}  {finding.rule}  {finding.message}", _STYLES[finding.verdict])
    for operation in report.operations:
        _operation(plan, operation, output)
    if report.undo is not None:
        _undo(report.undo, output, proved=report.undo_proved)


def outcome_line(workflow_id: str, outcome: Outcome, output: Output) -> None:
    """Print how a ticket ended."""
    output.line(f"{workflow_id}  {outcome.state}  {outcome.reason}", "green" if outcome.state == "done" else "yellow")


def _operation(plan: Plan, report: OperationReport, output: Output) -> None:
    operation = plan.operations[report.index]
    output.line(f"\n{report.index + 1}. {report.kind}: {report.verdict}", f"bold {_STYLES[report.verdict]}")
    for line in operation.sql.splitlines():
        output.line(f"   {line}")
    for number, value in enumerate(operation.params, 1):
        output.line(f"   ${number} = {value!r}")
    for finding in report.findings:
        output.line(f"   {finding.verdict:<8}  {finding.rule}  {finding.message}", _STYLES[finding.verdict])
    if report.rows:
        output.table(["table", "key", "before", "after", "via"], [_row(row) for row in report.rows[:_ROWS]])
    changed = sum(counts.total for counts in report.counts.values())
    if changed > len(report.rows[:_ROWS]):
        output.line(f"   showing {len(report.rows[:_ROWS])} of {changed} rows")


def _undo(undo: Undo, output: Output, *, proved: bool) -> None:
    output.line("\nundo: proved in the rehearsal" if proved else "\nundo: none", "green" if proved else "red")
    for operation in undo.operations:
        output.line(f"   {operation.sql}")
    for remark in undo.remarks:
        output.line(f"   {remark}")


def _row(row: RowChange) -> list[object]:
    return [row.table, row.key, row.before, row.after, row.via]
