"""Review of a decision: who took it, may he, and on record it goes, whatever the answer."""

import logging
from collections.abc import Mapping
from datetime import UTC

from temporalio import activity

from standfast import audit
from standfast.decision import DecisionRecord, DecisionVerdict, Refusal, may_decide_own, same_person
from standfast.errors import InvalidInput
from standfast.settings import Review as ReviewSettings
from standfast.signing import MAX_AGE, verify
from standfast.steps import REMIND, REVIEW, RemindRequest, ReviewRequest
from standfast.store.databases import Databases

logger = logging.getLogger("standfast.worker")

_MESSAGES: Mapping[Refusal, str] = {
    Refusal.STALE_PLAN: "the ticket has another plan now; look at it and decide again",
    Refusal.STALE_ROWS: "the rows have changed since this plan was shown; look at it and decide again",
    Refusal.JUDGED_ANEW: "the rules say something else about this plan than when it was shown; look and decide again",
    Refusal.UNSIGNED: "the decision has no proof of who took it",
    Refusal.BAD_SIGNATURE: "the decision's signature is not valid for any of the configured public keys",
    Refusal.OWN_TICKET: "the requester of a ticket may not decide on it",
    Refusal.OUT_OF_SCOPE: "the target's constraints name others to approve such a plan; you may still send it back",
    Refusal.ALREADY_APPROVED: "you have approved this plan before; it needs a further person",
    Refusal.COMMENT_REQUIRED: "say why in a comment",
    Refusal.NOT_REVISABLE: "no agent has planned this undo, so none can plan it otherwise; approve or reject it",
    Refusal.TOO_MANY_PLANS: "this ticket was planned too often; reject it and submit a new one",
}


class Reviewer:
    """The activities around decisions: each one is answered, and people are reminded of what waits for them."""

    def __init__(self, databases: Databases, settings: ReviewSettings) -> None:
        self._databases = databases
        self._settings = settings

    @activity.defn(name=REVIEW.name)
    async def review(self, request: ReviewRequest) -> DecisionRecord:
        """Verify the decision's proof and the person's right to take it, and append it to the audit chain.

        Raises:
            ServiceUnavailable: the control database can't be reached; an unrecorded decision doesn't count.
        """
        refused = self._identity(request) or request.refused
        decision = request.decision
        message = _message(request, refused)
        record = DecisionRecord.of(decision, at=request.received_at, refused=refused, message=message)
        async with self._databases.control(autocommit=True) as connection:
            receipt = await audit.append_step(
                connection,
                audit.Kind.REFUSED if refused else audit.Kind.DECISION,
                actor=record.by,
                content=record.content(decision),
            )
        return record.model_copy(update={"receipt": receipt})

    @activity.defn(name=REMIND.name)
    async def remind(self, request: RemindRequest) -> None:
        """Put on record, and into the log, that a plan waits in vain; who may approve from now on is there, too.

        Raises:
            ServiceUnavailable: the control database can't be reached.
        """
        waited = request.reminder.after
        logger.warning("%s has been waiting for a person for %s", request.workflow_id, waited)
        content = {"plan_digest": request.plan_digest} | request.reminder.model_dump(mode="json")
        async with self._databases.control(autocommit=True) as connection:
            await audit.append_step(connection, audit.Kind.REMINDER, content=content)

    def _identity(self, request: ReviewRequest) -> Refusal | None:
        """Who speaks comes before what is said: nobody learns a ticket's state by guessing."""
        decision = request.decision
        try:
            wrong = verify(
                decision,
                workflow_id=request.workflow_id,
                received_at=request.received_at,
                public_keys=self._settings.public_keys,
            )
        except InvalidInput:  # content without a canonical form can't have been signed
            return Refusal.BAD_SIGNATURE
        if wrong is not None:
            return wrong
        mode = decision.proof.mode if decision.proof else None
        if same_person(decision.by, request.requester) and not may_decide_own(mode, solo=self._settings.solo):
            return Refusal.OWN_TICKET
        out_of_scope = decision.verdict is DecisionVerdict.APPROVE and not request.in_scope
        return Refusal.OUT_OF_SCOPE if out_of_scope else None


def _message(request: ReviewRequest, refused: Refusal | None) -> str:
    if refused is None:
        return ""
    if refused is Refusal.NOT_WAITING:
        if request.decided_by:
            return f"{request.decided_by} has decided already; the ticket is {request.state}"
        return f"the ticket is {request.state}, not waiting for a decision"
    if refused is Refusal.EXPIRED_SIGNATURE and request.decision.proof is not None:
        signed, arrived = request.decision.proof.issued_at.astimezone(UTC), request.received_at
        return (
            f"by the clock of the machine that signed it, the decision was signed at {signed:%Y-%m-%d %H:%M:%S} UTC; it"
            f" arrived at {arrived:%H:%M:%S} and was good for {MAX_AGE}: take it again, or set that clock"
        )
    return _MESSAGES[refused]
