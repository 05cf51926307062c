"""What Temporal's visibility store knows of a ticket: search attributes, in plain text, hence no personal data."""

from datetime import datetime

from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from standfast.domain import Record
from standfast.outcome import State
from standfast.report import Verdict

STATE = SearchAttributeKey.for_keyword("StandfastState")
TARGET = SearchAttributeKey.for_keyword("StandfastTarget")
RISK = SearchAttributeKey.for_keyword("StandfastRisk")


class TicketRow(Record):
    """One ticket in a list."""

    workflow_id: str
    state: State
    target: str
    risk: Verdict | None
    """The verdict of the latest report; None before there is one."""
    started_at: datetime
    closed_at: datetime | None
    batch: str | None = None
    """Workflow id of the batch that started it."""


def at_start(target: str) -> TypedSearchAttributes:
    """Return the search attributes of a ticket that was just submitted."""
    return TypedSearchAttributes(
        [SearchAttributePair(STATE, State.GATHERING.value), SearchAttributePair(TARGET, target)]
    )
