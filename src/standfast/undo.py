"""Undos: tickets of their own that take back what another one has changed."""

from pydantic import ValidationError

from standfast.errors import InvalidInput
from standfast.ticket import Ticket
from standfast.view import TicketView


def undo_id(original: str, number: int) -> str:
    """Return the id of the ticket that takes another one back, for the first, second, ... time that it is tried."""
    return f"{original}-undo{number if number > 1 else ''}"


def undo_ticket(view: TicketView, number: int, by: str) -> Ticket:
    """Return the ticket by which `by` asks to take another one back, for the first, second, ... time.

    Raises:
        InvalidInput: its id would be too long.
    """
    original = view.ticket
    try:
        return Ticket(
            id=undo_id(original.id, number),
            title=f"Undo {original.title or original.id}"[:500],
            body=f"Take back what {view.workflow_id} has changed. {view.outcome.reason if view.outcome else ''}",
            requester=by,
            target=original.target,
            subject=original.subject,
            undo_of=view.workflow_id,
        )
    except ValidationError as error:
        problem = error.errors()[0]
        raise InvalidInput(f"undo of {view.workflow_id}: {problem['loc'][0]}: {problem['msg']}") from error
