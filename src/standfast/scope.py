"""What somebody who is known may do."""

from enum import StrEnum


class Scope(StrEnum):
    """One kind of thing to do on the dashboard and its API. None contains another one."""

    VIEW = "view"
    """Read: inbox, tickets, histories, figures."""
    SUBMIT = "submit"
    """Submit tickets."""
    DECIDE = "decide"
    """Approve, reject, ask for changes, undo, cancel: whatever changes what becomes of a ticket."""
