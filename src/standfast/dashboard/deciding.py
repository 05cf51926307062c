"""Deciding on a ticket: who may, and the one way in which page and API deliver a decision."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import StringConstraints

from standfast.client import Standfast
from standfast.dashboard.sessions import Session
from standfast.decision import Comment, DecisionRecord, DecisionVerdict, Mode, Seen, same_person
from standfast.domain import Submission
from standfast.errors import DecisionRefused
from standfast.outcome import State
from standfast.report import SafetyReport, deleted_rows
from standfast.scope import Scope
from standfast.settings import Review
from standfast.view import TicketView

CONFIRMATION = "confirmation-required"


class DecisionForm(Submission):
    """What a person sends: a verdict on exactly what was seen."""

    verdict: DecisionVerdict
    plan_digest: Seen
    fingerprint: Seen
    comment: Annotated[Comment, StringConstraints(strip_whitespace=True)] = ""
    deleted_rows: str = ""
    """Typed by who approves a plan that deletes rows: how many."""


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
    elif same_person(view.ticket.requester, session.user) and not (review.solo and session.mode is Mode.SOLO):
        reason = "You opened this ticket; somebody else has to decide."
    if reason:
        return Rights(approve=reason, send_back=reason)
    if any(same_person(session.user, by) for by in view.approvals):
        return Rights(approve="You have approved this plan already; it needs a further person.")
    if not view.may_approve(session.user):
        return Rights(approve="The target's constraints name others to approve such a plan.")
    return Rights()


async def deliver(standfast: Standfast, workflow_id: str, session: Session, form: DecisionForm) -> DecisionRecord:
    """Deliver the decision of a signed-in person.

    Raises:
        DecisionRefused: it changed nothing; `reason` is a `Refusal` or `confirmation-required`.
        NotPermitted: this process has no signing key.
        UnknownTicket: no such ticket.
        ServiceUnavailable: Temporal, or every core worker, is away.
    """
    if form.verdict is DecisionVerdict.APPROVE:
        _require_confirmation((await standfast.view(workflow_id)).report, form)
    return await standfast.decide(
        workflow_id,
        verdict=form.verdict,
        by=session.user,
        mode=session.mode,
        plan_digest=form.plan_digest,
        fingerprint=form.fingerprint,
        comment=form.comment,
    )


def _require_confirmation(report: SafetyReport | None, form: DecisionForm) -> None:
    # A report that isn't the one seen needs no look here: the workflow refuses the decision as stale.
    if report is None or (report.plan_digest, report.fingerprint) != (form.plan_digest, form.fingerprint):
        return
    count = deleted_rows(report)
    if count and form.deleted_rows.strip() != str(count):
        typed = f"{form.deleted_rows.strip()!r}" if form.deleted_rows.strip() else "nothing"
        raise DecisionRefused(
            f"this plan deletes rows, and the number typed to confirm it was {typed}; type {count} to approve",
            reason=CONFIRMATION,
        )
