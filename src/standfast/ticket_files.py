"""Tickets as people and programs write them: one JSON object, an array, or JSON lines."""

from collections.abc import Callable

from standfast.documents import read_json_documents, validate
from standfast.errors import InvalidInput, TicketConflict, UnknownTarget
from standfast.settings import Settings
from standfast.ticket import Ticket

_NO_UNDO = "no ticket that is submitted asks for an undo; `standfast undo TICKET` does, or POST to the ticket's /undo"


def parse_tickets(
    text: str, *, source: str, settings: Settings, on_invalid: Callable[[InvalidInput], None] | None = None
) -> list[Ticket]:
    """Return the tickets in `text`: one JSON object, an array, or JSON lines. All are valid, or none is returned.

    With `on_invalid` the invalid ones go there, and the valid ones are returned.

    Raises:
        InvalidInput: naming source, line, field, value and what was expected.
    """
    return [
        ticket for _, ticket in parse_numbered_tickets(text, source=source, settings=settings, on_invalid=on_invalid)
    ]


def parse_numbered_tickets(
    text: str, *, source: str, settings: Settings, on_invalid: Callable[[InvalidInput], None] | None = None
) -> list[tuple[int, Ticket]]:
    """Return the tickets in `text` as `parse_tickets` does, each with its line.

    Raises:
        InvalidInput: as for `parse_tickets`.
    """
    tickets: dict[str, tuple[int, Ticket]] = {}
    for line, document, value in read_json_documents(text, source=source, on_invalid=on_invalid):
        try:
            ticket = parse_ticket(value, source=source, line=line, text=document, settings=settings)
            if tickets.setdefault(ticket.workflow_id, (line, ticket))[1] != ticket:
                raise TicketConflict(f"{source}, line {line}: {ticket.workflow_id} is in this file with other content")
        except InvalidInput as error:
            if on_invalid is None:
                raise
            on_invalid(error)
    if not tickets:
        raise InvalidInput(f"{source}: holds no {'valid ' if on_invalid else ''}ticket")
    return list(tickets.values())


def parse_ticket(value: object, *, source: str, line: int, text: str, settings: Settings) -> Ticket:
    """Return one ticket; a missing target becomes the default one. It can't ask for an undo, which is a decision.

    Raises:
        InvalidInput: naming source, line, field, value and what was expected.
    """
    if isinstance(value, dict) and "undo_of" in value:
        raise InvalidInput(f"{source}, line {line}: field undo_of: {_NO_UNDO}")
    try:
        if isinstance(value, dict) and "target" not in value:
            value = value | {"target": settings.default_target_name()}
    except UnknownTarget as error:
        raise UnknownTarget(f"{source}, line {line}: {error}") from None
    ticket = validate(Ticket, value, source=source, line=line, text=text)
    try:
        settings.target(ticket.target)
    except UnknownTarget as error:
        raise UnknownTarget(f"{source}, line {line}: field target: {error}") from None
    return ticket
