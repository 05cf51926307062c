"""Constraints on people: whose tickets need more care, and who may approve what."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from standfast.decision import fits
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
        return (not self.requesters or fits(ticket.requester, self.requesters)) and (
            not self.labels or any(fits(label, self.labels) for label in ticket.labels)
        )


class ApproverScope(Submission):
    """Who may approve some plans; rejecting one and asking for another stays everybody's.

    If several apply to a plan, each of its approvers must be in all of them; if none does, whoever may decide may.
    """

    tables: tuple[Pattern, ...] = ()
    """Plans that write one of these tables, `schema.table`, by whatever way..."""
    rules: tuple[Pattern, ...] = ()
    """...and plans in which one of these rules has found a reason to ask; all plans if neither is given."""
    who: Annotated[tuple[Pattern, ...], Field(min_length=1)]

    def applies(self, tables: Iterable[str], rules: Iterable[str]) -> bool:
        """Tell whether it applies to a plan that writes these tables, and in which these rules ask for a person."""
        if not self.tables and not self.rules:
            return True
        return any(fits(table, self.tables) for table in tables) or any(fits(rule, self.rules) for rule in rules)
