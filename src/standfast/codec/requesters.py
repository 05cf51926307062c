"""Marks of requesters: tickets of one person can be found by them, and nobody without a key learns who that is.

Search attributes are in plain text. A plain hash of a mail address can be guessed; one with a key can't.
"""

import hmac

from temporalio.converter import DataConverter

from standfast.codec.encryption import EncryptionCodec
from standfast.codec.marking import MarkingCodec
from standfast.decision import folded

_PURPOSE = b"standfast: marks of requesters"
_DIGITS = 32  # hexadecimal: enough that no two people share one


def requester_marks(converter: DataConverter, requester: str) -> tuple[str, ...]:
    """Return the marks that a requester's tickets may have, one for each key of the ring, the active one's first.

    Where nothing is encrypted there is no key, and no secret either.
    """
    codec = converter.payload_codec
    keys = [b""]
    if isinstance(codec, EncryptionCodec | MarkingCodec):
        ring = codec.ring
        keys = [ring.derived(_PURPOSE, key_id) for key_id in sorted(ring.keys, key=lambda one: one != ring.active)]
    name = folded(requester).encode(errors="surrogatepass")
    return tuple(hmac.digest(key, name, "sha256").hex()[:_DIGITS] for key in keys)
