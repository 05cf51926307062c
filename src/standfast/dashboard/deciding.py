"""Deciding on a ticket: who may, and the one way in which page and API deliver a decision."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import StringConstraints

from standfast.client import Standfast
from standfast.dashboard.sessions import Session
from standfast.dashboard.text import moment
from standfast.decision import (
    Comment,
    DecisionRecord,
    DecisionVerdict,
    PersonName,
    Refusal,
    ShortText,
    may_decide_own,
    same_person,
)
from standfast.domain import Submission
from standfast.errors import DecisionRefused, NotPermitted
from standfast.outcome import State
from standfast.report import SafetyReport, deleted_rows
from standfast.scope import Scope
from standfast.settings import Review
from standfast.view import TicketView

_DECIDED = frozenset({State.DONE, State.REJECTED})  # ends that follow from a decision
CONFIRMATION = "confirmation-required"


class DecisionForm(Submission):
    """What a person sends: a verdict on exactly what was seen."""

    verdict: DecisionVerdict
    plan_digest: ShortText
    fingerprint: ShortText
    by: PersonName | None = None
    """Who decides: the name of who sends it, which is taken if none is given."""
    comment: Annotated[Comment, StringConstraints(strip_whitespace=True)] = ""
    deleted_rows: str = ""
    """Typed by who approves a plan that deletes rows: how many."""
    judgement: ShortText = ""
    """What the rules said when it was seen, see `SafetyReport.judgement`; empty if that was not looked at."""


@dataclass(frozen=True, kw_only=True)
class Rights:
    """Why somebody may not decide; an empty text means: may."""

    approve: str = ""
    send_back: str = ""


def rights(view: TicketView, session: Session, review: Review) -> Rights:
    """Return what `session` may do with a waiting ticket. The workflow decides in the end; this explains beforehand."""
    reason = ""
    if view.state is not State.WAITING or view.report is None:
        reason = f"The ticket is {view.state}; there is nothing to decide."
    elif review.signing_key is None:
        reason = "This dashboard has no key to sign decisions with; set review.signing_key."
    elif Scope.DECIDE not in session.scopes:
        reason = "You may look at this ticket, but not decide on it: that takes the scope decide."
    elif same_person(view.ticket.requester, session.user) and not may_decide_own(session.mode, solo=review.solo):
        reason = "You opened this ticket; somebody else has to decide."
    if reason:
        return Rights(approve=reason, send_back=reason)
    if any(same_person(session.user, by) for by in view.approvals):
        return Rights(approve="You have approved this plan already; it needs a further person.")
    if not view.may_approve(session.user):
        return Rights(approve="The target's constraints name others to approve such a plan.")
    return Rights()


def wants_reason(report: SafetyReport) -> bool:
    """Return whether who approves has to say why: the plan deletes rows, or needs several people."""
    return bool(deleted_rows(report)) or report.approvals_required > 1


def approvers(view: TicketView, review: Review) -> tuple[str, ...]:
    """Return in sentences who may approve the present plan, now and later."""
    return tuple(_approvers(view, review)) if view.report else ()


def _approvers(view: TicketView, review: Review) -> Iterator[str]:
    report = view.report
    if report is None:
        return
    scopes = [_any_of(scope) for scope in report.approver_scopes]
    who = f"Who fits {', and also '.join(scopes)}" if scopes else "Everybody who may sign in"
    yield f"{who}, {'the requester included' if review.solo else 'but not the requester'}."
    for number, reminder in enumerate(report.reminders):
        if not reminder.approvers:
            continue
        past = number < len(view.reminders)
        since = (
            "Since a reminder"
            if past
            else f"From {moment((view.waiting_since or report.rehearsed_at) + reminder.after)} on"
        )
        yield f"{since} also {_any_of(reminder.approvers)}, whatever the constraints say."


def _any_of(patterns: Iterable[str]) -> str:
    return " or ".join(patterns) or "nobody"


async def deliver(standfast: Standfast, workflow_id: str, session: Session, form: DecisionForm) -> DecisionRecord:
    """Deliver the decision of a signed-in person.

    Raises:
        DecisionRefused: it changed nothing; `reason` is a `Refusal` or `confirmation-required`.
        NotPermitted: it is in somebody else's name, or this process has no signing key.
        UnknownTicket: no such ticket.
        ServiceUnavailable: Temporal, or every core worker, is away.
    """
    if form.by is not None and not same_person(form.by, session.user):
        raise NotPermitted(f"{session.user!r} decides in this name only, got {form.by!r}")
    if form.verdict is DecisionVerdict.APPROVE:
        view = await standfast.view(workflow_id)
        if view.state is State.VALIDATING and view.report is None:
            raise DecisionRefused("the ticket is validating, not waiting for a decision", reason=Refusal.NOT_WAITING)
        # What isn't what was seen needs no look here: the workflow refuses the decision.
        if view.report is not None and _is_about(form, view.report) and not view.state.is_end:
            _require_confirmation(view.report, form)
            _require_reason(view.report, form)
    try:
        return await standfast.decide(
            workflow_id,
            verdict=form.verdict,
            by=session.user,
            mode=session.mode,
            plan_digest=form.plan_digest,
            fingerprint=form.fingerprint,
            judgement=form.judgement,
            comment=form.comment,
        )
    except DecisionRefused as refused:
        if refused.reason == Refusal.NOT_WAITING:
            raise _too_late(await standfast.view(workflow_id), refused) from refused
        raise


def _is_about(form: DecisionForm, report: SafetyReport) -> bool:
    return (report.plan_digest, report.fingerprint) == (form.plan_digest, form.fingerprint)


def _too_late(view: TicketView, refused: DecisionRefused) -> DecisionRefused:
    """Return the refusal with the name of who decided, which Temporal doesn't know of a ticket that has ended."""
    first = next((record for record in reversed(view.decisions) if record.refused is None), None)
    if first is None or view.state not in _DECIDED:
        return refused
    return DecisionRefused(
        f"{first.by} has decided already ({first.verdict}); the ticket is {view.state}", reason=refused.reason
    )


def _require_confirmation(report: SafetyReport, form: DecisionForm) -> None:
    count = deleted_rows(report)
    if count and form.deleted_rows.strip() != str(count):
        typed = f"{form.deleted_rows.strip()!r}" if form.deleted_rows.strip() else "nothing"
        raise DecisionRefused(
            f"this plan deletes rows, and the number typed to confirm it was {typed}; type {count} to approve",
            reason=CONFIRMATION,
        )


def _require_reason(report: SafetyReport, form: DecisionForm) -> None:
    if wants_reason(report) and not form.comment:
        why = "deletes rows" if deleted_rows(report) else f"needs {report.approvals_required} people"
        raise DecisionRefused(f"this plan {why}; say in a comment why you approve it", reason=Refusal.COMMENT_REQUIRED)
