"""Constraints on people: whose tickets need more care."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import StringConstraints, model_validator

from standfast.decision import folded
from standfast.domain import Submission
from standfast.report import Verdict
from standfast.ticket import Ticket

Pattern = Annotated[str, StringConstraints(min_length=1)]
"""A text in which `*` stands for any characters and `?` for one; upper and lower case are the same."""


class Condition(Submission):
    """What holds for a ticket because of its requester and labels: each operation gets this verdict at least."""

    requesters: tuple[Pattern, ...] = ()
    """Any of them; empty for everybody."""
    labels: tuple[Pattern, ...] = ()
    """The ticket has one of them; empty for every ticket."""
    verdict: Literal[Verdict.APPROVAL, Verdict.BLOCK] = Verdict.APPROVAL
    reason: str = ""

    @model_validator(mode="after")
    def _selects(self) -> "Condition":
        if not self.requesters and not self.labels:
            msg = "one of requesters and labels is required"
            raise ValueError(msg)
        return self

    def holds(self, ticket: Ticket) -> bool:
        """Tell whether the ticket is from one of the requesters, and has one of the labels."""
        return (not self.requesters or matches(ticket.requester, self.requesters)) and (
            not self.labels or any(matches(label, self.labels) for label in ticket.labels)
        )


def matches(text: str, patterns: Sequence[str]) -> bool:
    """Tell whether a name fits any of the patterns, compared as people's names are."""
    return any(fnmatchcase(folded(text), folded(pattern)) for pattern in patterns)
