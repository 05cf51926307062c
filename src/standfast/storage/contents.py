"""What is stored of a payload, whichever storage it is."""

from temporalio.api.common.v1 import Payload

from standfast.errors import PayloadTooLarge

MAX_BYTES = 128 * 2**20
"""Of one payload: what shows a ticket has it twice, and one of `standfast.ticket.MAX_BYTES` has to fit."""
MARK = "standfast-mark"
"""In a payload's metadata: what is the same for the same content, see `standfast.codec.marking`. Never stored with it,
and never sent."""


def unmarked(payload: Payload) -> tuple[Payload, bytes | None]:
    """Return the payload without its mark, and the mark."""
    if MARK not in payload.metadata:
        return payload, None
    plain = Payload()
    plain.CopyFrom(payload)
    return plain, plain.metadata.pop(MARK)


def content_of(payload: Payload) -> bytes:
    """Return a payload as bytes.

    Raises:
        PayloadTooLarge: it has more than `MAX_BYTES`.
    """
    size = len(payload.data)
    if size > MAX_BYTES:
        raise PayloadTooLarge(f"{size} bytes are too many to be passed on, at most {MAX_BYTES} are allowed")
    return payload.SerializeToString()
