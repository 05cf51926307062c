"""What a ticket's workflow takes along when it continues as new: enough to go on, and no more."""

from typing import Annotated

from pydantic import Field, RootModel

from standfast.domain import Record
from standfast.report import SafetyReport
from standfast.steps import Recalled
from standfast.ticket import NoTicket, Ticket
from standfast.view import TicketView


class Carried(Record):
    """A ticket before its first step, or between a plan and its next validation."""

    view: TicketView
    """Without its report, which the next validation replaces."""
    plans_made: int = 1
    """Since a person last spoke, see `standfast.path.evaluate`."""
    approved: SafetyReport | None = None
    """What people have approved, to be validated once more."""
    asked: SafetyReport | None = None
    """What people were asked about when one of them wanted it validated anew."""
    recalled: Recalled | None = None
    executions: int = 0
    drifts: int = 0


class Start(RootModel[Annotated[Ticket | Carried | NoTicket, Field(union_mode="left_to_right")]]):
    """What a run of a ticket's workflow starts with: the ticket, or what the run before it has carried."""
