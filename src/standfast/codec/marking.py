"""Marks: the same content of a workflow is recognized, though it is encrypted anew each time that it is made.

A replay makes the payloads of a workflow once more, and so does each look at a ticket. With a fresh nonce they are
other bytes every time, and the storage of large payloads would grow with every look. So content is marked before it is
encrypted: by a hash that only holders of the key can compute, and that tells of two payloads whether they are one. The
storage takes the mark off again, and so does whoever keeps the payload elsewhere.
"""

import hashlib
from collections.abc import Sequence
from typing import Self

from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec, SerializationContext, WithSerializationContext

from standfast.codec.encryption import Binding, EncryptionCodec
from standfast.codec.keyring import KeyRing
from standfast.storage.contents import MARK

_PURPOSE = b"standfast: marks of payloads"


class MarkingCodec(PayloadCodec, WithSerializationContext):
    """Encrypts, and marks what is large enough to be stored."""

    def __init__(self, codec: EncryptionCodec, threshold: int, own: Binding | None = None) -> None:
        self._codec = codec
        self._threshold = threshold
        self._own = own or Binding()

    @property
    def ring(self) -> KeyRing:
        """The keys."""
        return self._codec.ring

    def with_context(self, context: SerializationContext) -> Self:
        """Return the codec of one workflow; what is encrypted for one is of no use to another."""
        return type(self)(self._codec.with_context(context), self._threshold, Binding.of(context))

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Return the payloads encrypted, the large ones with their marks."""
        encrypted = await self._codec.encode(payloads)
        for new, plain in zip(encrypted, payloads, strict=True):
            if new.ByteSize() >= self._threshold:  # as the storage will measure it
                new.metadata[MARK] = self._mark(plain)
        return encrypted

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """See `EncryptionCodec`."""
        return await self._codec.decode(payloads)

    def _mark(self, payload: Payload) -> bytes:
        mark = hashlib.blake2b(key=self._codec.ring.derived(_PURPOSE), digest_size=32)
        names = (self._own.namespace.encode(), self._own.workflow_id.encode())
        fields = (field for name in sorted(payload.metadata) for field in (name.encode(), payload.metadata[name]))
        for part in (*names, *fields, payload.data):
            mark.update(len(part).to_bytes(8))
            mark.update(part)
        return mark.digest()
