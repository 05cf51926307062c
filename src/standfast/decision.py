"""A decision of a person on a waiting plan, and the proof of who took it."""

import unicodedata
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Any, Self

from pydantic import StringConstraints

from standfast.domain import Record, Submission
from standfast.ticket import Text


class DecisionVerdict(StrEnum):
    """What a person can say."""

    APPROVE = "approve"
    REJECT = "reject"
    REVISE = "revise"
    """Plan again, with the comment."""


def same_person(one: str, other: str) -> bool:
    """Tell whether two names are one person's: mail addresses are compared without regard to case."""
    return folded(one) == folded(other)


def fits(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether a name fits one of the patterns, in which `*` stands for any characters; compared the same way."""
    return any(fnmatchcase(folded(name), folded(pattern)) for pattern in patterns)


def folded(name: str) -> str:
    """Return the form of a name that is the same for one person, however it is written."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


class Refusal(StrEnum):
    """Why a decision changed nothing. Stable codes."""

    NOT_WAITING = "not-waiting"
    STALE_PLAN = "stale-plan"
    STALE_ROWS = "stale-rows"
    JUDGED_ANEW = "judged-anew"
    UNSIGNED = "unsigned"
    BAD_SIGNATURE = "bad-signature"
    EXPIRED_SIGNATURE = "expired-signature"
    OWN_TICKET = "own-ticket"
    OUT_OF_SCOPE = "out-of-scope"
    ALREADY_APPROVED = "already-approved"
    COMMENT_REQUIRED = "comment-required"
    TOO_MANY_PLANS = "too-many-plans"
    NOT_REVISABLE = "not-revisable"
    UNDONE = "undone"
    NOTHING_TO_UNDO = "nothing-to-undo"
    TOO_MANY_REFUSED = "too-many-refused"


UNPROVED = frozenset({Refusal.UNSIGNED, Refusal.BAD_SIGNATURE, Refusal.EXPIRED_SIGNATURE})
"""Who is named there need not be who sent it."""


class Mode(StrEnum):
    """How the person was authenticated."""

    SOLO = "solo"
    """The operating system's user on a loopback set-up: requester and approver may be the same person, if `review.solo`
    is set."""
    CLI = "cli"
    """The holder of a signing key on the command line."""
    SESSION = "session"
    """A signed-in user of the dashboard."""
    PROXY = "proxy"
    """A user of the dashboard whom the proxy in front of it named."""
    TOKEN = "token"  # noqa: S105 - a mode
    """The holder of an API token that may decide."""


def may_decide_own(mode: Mode | None, *, solo: bool) -> bool:
    """Tell whether somebody authenticated like this may decide on a ticket of his own; `solo` as the settings say."""
    return solo and mode is Mode.SOLO


ShortText = Annotated[Text, StringConstraints(max_length=128)]
"""A digest, a signature, the id of a key, or whatever somebody sends for one."""
PersonName = Annotated[Text, StringConstraints(min_length=1, max_length=320)]
Comment = Annotated[Text, StringConstraints(max_length=4_000)]


class Proof(Submission):
    """Signed statement of the process that authenticated the person."""

    id: Annotated[Text, StringConstraints(min_length=8, max_length=64)]
    """Unique per decision: the same id again is the same decision."""
    key_id: ShortText
    """Which of the configured public keys verifies the signature."""
    mode: Mode
    issued_at: datetime
    signature: ShortText
    """Ed25519 over the canonical JSON of workflow id, decision and this proof without its signature; base64."""


class Decision(Submission):
    """One person's word on one plan with one effect."""

    verdict: DecisionVerdict
    plan_digest: ShortText
    """What was seen: the report's plan digest..."""
    fingerprint: ShortText
    """...the report's fingerprint over the rows..."""
    judgement: ShortText = ""
    """...and what the rules said, for whom it was shown: an approval counts for nothing else. Empty: it was not."""
    by: PersonName
    comment: Comment = ""
    proof: Proof | None = None

    def signed_content(self, workflow_id: str) -> dict[str, object]:
        """Return the JSON value that the signature covers.

        Raises:
            ValueError: there is no proof.
        """
        if self.proof is None:
            msg = "a decision without proof has nothing to sign"
            raise ValueError(msg)
        content = self.model_dump(mode="json", exclude=None if self.judgement else {"judgement"})
        del content["proof"]["signature"]
        return {"workflow_id": workflow_id, "decision": content}


class DecisionRecord(Record):
    """A decision that reached the workflow, accepted or not."""

    id: str
    """The proof's id; empty if there was no proof."""
    verdict: DecisionVerdict
    plan_digest: str
    by: str
    mode: Mode | None
    comment: str
    at: datetime
    refused: Refusal | None = None
    """None if the decision counted."""
    message: str = ""
    """Why it was refused, for people."""
    receipt: str = ""
    """Hash of its row in the audit chain: `standfast audit verify --head` tells whether the chain still contains it."""

    @classmethod
    def of(cls, decision: Decision, *, at: datetime, refused: Refusal | None, message: str) -> Self:
        """Return the record of a decision that arrived at `at`."""
        return cls(
            id=decision.proof.id if decision.proof else "",
            verdict=decision.verdict,
            plan_digest=decision.plan_digest,
            by=decision.by,
            mode=decision.proof.mode if decision.proof else None,
            comment=decision.comment,
            at=at,
            refused=refused,
            message=message,
        )

    def content(self, decision: Decision) -> dict[str, Any]:
        """Return what the audit chain keeps of it."""
        seen = {"fingerprint": decision.fingerprint, "judgement": decision.judgement}
        return self.model_dump(mode="json", exclude={"receipt"}) | seen
