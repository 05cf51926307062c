"""What Temporal's visibility store knows of a ticket.

Search attributes are in plain text, hence no personal data; what people read in lists is in the memo, which is
encrypted as every payload is.
"""

from datetime import datetime
from typing import Any, Self

from temporalio.common import SearchAttributeKey, SearchAttributePair, SearchAttributeUpdate, TypedSearchAttributes

from standfast.domain import Record
from standfast.outcome import State
from standfast.report import Danger, Verdict, deleted_rows
from standfast.ticket import Ticket
from standfast.view import TicketView

STATE = SearchAttributeKey.for_keyword("StandfastState")
TARGET = SearchAttributeKey.for_keyword("StandfastTarget")
RISK = SearchAttributeKey.for_keyword("StandfastRisk")
REQUESTER = SearchAttributeKey.for_keyword("StandfastRequester")
"""A mark, see `standfast.codec.requesters`."""
RULES = SearchAttributeKey.for_keyword_list("StandfastRules")
"""Ids of the rules that asked for a person, or blocked the plan."""
ORDER = SearchAttributeKey.for_int("StandfastOrder")
"""The place in the list of waiting tickets, see `order`; a ticket that doesn't wait has none."""
ATTRIBUTES: tuple[SearchAttributeKey[Any], ...] = (STATE, TARGET, RISK, REQUESTER, RULES, ORDER)

SUMMARY = "ticket_summary"
"""In the memo of the workflow: a `TicketSummary`."""

ORDERS = 10**14
"""As many places each danger has: milliseconds, of which there will have been so many in a thousand years."""
_SENTENCE = 500  # characters


class TicketSummary(Record):
    """What a list tells people about a ticket, so that no workflow has to be asked."""

    title: str
    requester: str
    effect: str = ""
    """The sentence on the plan's effect; empty as long as none waited for a person."""
    danger: Danger = Danger.ORDINARY
    deleted_rows: int = 0
    approvals: tuple[str, ...] = ()
    """Who has approved the plan so far."""
    approvals_required: int = 1
    waiting_since: datetime | None = None
    expires_at: datetime | None = None

    @classmethod
    def at_start(cls, ticket: Ticket) -> Self:
        """Return what is known once a ticket is submitted."""
        return cls(title=ticket.title, requester=ticket.requester)

    @classmethod
    def waiting(cls, view: TicketView) -> Self:
        """Return what people who may decide want to know."""
        summary = cls.at_start(view.ticket)
        report = view.report
        if report is None:
            return summary
        sentence = report.effect(view.ticket.target)
        return summary.model_copy(
            update={
                "effect": sentence if len(sentence) <= _SENTENCE else f"{sentence[:_SENTENCE]}…",
                "danger": Danger.of(report),
                "deleted_rows": deleted_rows(report),
                "approvals": view.approvals,
                "approvals_required": report.approvals_required,
                "waiting_since": view.waiting_since,
                "expires_at": view.expires_at,
            }
        )


class TicketRow(Record):
    """One ticket in a list."""

    workflow_id: str
    state: State
    target: str
    risk: Verdict | None
    """The verdict of the latest report; None before there is one."""
    rules: tuple[str, ...] = ()
    """Ids of the rules that asked for a person, or blocked the plan."""
    started_at: datetime
    closed_at: datetime | None
    batch: str | None = None
    """Workflow id of the batch that started it."""


def kind(key: SearchAttributeKey[Any]) -> str:
    """Return the type of a search attribute as Temporal's command line names it."""
    return "".join(word.capitalize() for word in key.indexed_value_type.name.split("_"))


def at_start(target: str, requester_mark: str) -> TypedSearchAttributes:
    """Return the search attributes of a ticket that was just submitted; the mark is empty if nobody made one."""
    pairs = [SearchAttributePair(STATE, State.GATHERING.value), SearchAttributePair(TARGET, target)]
    if requester_mark:
        pairs.append(SearchAttributePair(REQUESTER, requester_mark))
    return TypedSearchAttributes(pairs)


def updates(view: TicketView, shown: TypedSearchAttributes) -> list[SearchAttributeUpdate[Any]]:
    """Return how the search attributes that are shown become those of the ticket as it is now."""
    found: dict[SearchAttributeKey[Any], Any] = {STATE: view.state.value, ORDER: None}
    if view.report is not None:
        asking = {finding.rule for finding in view.report.all_findings if finding.verdict is not Verdict.AUTO}
        found |= {RISK: view.report.verdict.value, RULES: sorted(asking) or None}
        if view.state is State.WAITING and view.waiting_since is not None:
            found[ORDER] = order(Danger.of(view.report), view.waiting_since)
    changed = {key: value for key, value in found.items() if shown.get(key) != value}
    return [key.value_unset() if value is None else key.value_set(value) for key, value in changed.items()]


def order(danger: Danger, waiting_since: datetime) -> int:
    """Return the place in the list of waiting tickets: the most dangerous first, then the longest waiting."""
    return list(Danger).index(danger) * ORDERS + int(waiting_since.timestamp() * 1000)
