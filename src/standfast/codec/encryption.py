"""The payload codec: AES-256-GCM, each payload bound to the workflow that it belongs to.

A payload that was moved into another workflow's history is refused: namespace and workflow id are authenticated as
associated data, and compared with the context in which it is read. They, and the id of the key, are in the payload's
metadata in plain text, for readers without a context: the codec server and tools.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from cryptography.exceptions import InvalidTag
from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    ActivitySerializationContext,
    PayloadCodec,
    SerializationContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)

from standfast.codec.keyring import KeyRing, Keys
from standfast.domain import canonical_json
from standfast.errors import PayloadRefused, UnknownKey

ENCODING = b"binary/encrypted"
CIPHER = b"AES-256-GCM"

_NONCE_BYTES = 12
# What Temporal itself writes as the details of an activity that was cancelled before a worker had it.
_NOT_STARTED = Payload(metadata={"encoding": b"json/plain"}, data=b'"ACTIVITY_ID_NOT_STARTED"')
_KEY, _NAMESPACE, _WORKFLOW = "encryption-key-id", "namespace", "workflow-id"


@dataclass(frozen=True)
class Binding:
    """Whose payload it is. Headers that a client sends are nobody's: temporalio gives them no context."""

    namespace: str = ""
    workflow_id: str = ""

    @classmethod
    def of(cls, context: SerializationContext) -> Self:
        """Return the binding of what is read or written in a context; activities are their workflow's."""
        match context:
            case WorkflowSerializationContext():
                return cls(context.namespace, context.workflow_id)
            case ActivitySerializationContext() if context.workflow_id:
                return cls(context.namespace, context.workflow_id)
        raise TypeError(f"payloads outside of workflows are not encrypted: {context}")

    def __str__(self) -> str:
        """Return how people name the workflow."""
        return f"{self.workflow_id} of namespace {self.namespace}"


class EncryptionCodec(PayloadCodec, WithSerializationContext):
    """Encrypts with the active key, decrypts with any; refuses what was never encrypted, unless with `accept_plain`.

    Without a context it reads every workflow's payloads, for people and tools: `binding` tells whose they are.
    """

    def __init__(self, keys: Keys, own: Binding | None = None, *, accept_plain: bool) -> None:
        self._keys = keys
        self._own = own
        self._accept_plain = accept_plain

    @property
    def ring(self) -> KeyRing:
        """The keys."""
        return self._keys.ring

    def with_context(self, context: SerializationContext) -> Self:
        """Return the codec of one workflow."""
        return type(self)(self._keys, Binding.of(context), accept_plain=self._accept_plain)

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Return the payloads encrypted, each with a nonce of its own."""
        ring, own = self._keys.ring, self._own or Binding()
        cipher, associated = ring.cipher(ring.active), _associated_own(ring.active, own)
        metadata = {
            "encoding": ENCODING,
            "encryption-cipher": CIPHER,
            _KEY: ring.active.encode(),
            _NAMESPACE: own.namespace.encode(),
            _WORKFLOW: own.workflow_id.encode(),
        }
        encrypted: list[Payload] = []
        for payload in payloads:
            nonce = os.urandom(_NONCE_BYTES)
            data = nonce + cipher.encrypt(nonce, payload.SerializeToString(), associated)
            encrypted.append(Payload(metadata=metadata, data=data))
        return encrypted

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Return the payloads decrypted.

        Raises:
            UnknownKey: a key is missing; once it is in the ring, the payload can be read.
            PayloadRefused: one was changed, belongs to another workflow, or is plain where none may be.
        """
        return [
            await self._decrypted(payload) if is_encrypted(payload) else self._plain(payload) for payload in payloads
        ]

    def _plain(self, payload: Payload) -> Payload:
        if self._own is not None and not self._accept_plain and payload != _NOT_STARTED:
            raise PayloadRefused(
                f"a payload of {self._own} is refused: it is not encrypted. Somebody without a key wrote it; or the "
                "ticket is from before encryption, then set encryption.accept_plain = true until it has ended"
            )
        return payload

    async def _decrypted(self, payload: Payload) -> Payload:
        key_id, whose = payload.metadata.get(_KEY, b"").decode(errors="replace"), binding(payload)
        if self._own is not None and whose not in (self._own, Binding()):
            raise PayloadRefused(
                f"a payload of {self._own} (key {key_id!r}) is refused: it belongs to {whose}, from where it was copied"
            )
        nonce, data = payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:]
        try:
            cipher = await self._keys.cipher(key_id)
            associated = (_associated if self._own is None else _associated_own)(key_id, whose)
            return Payload.FromString(cipher.decrypt(nonce, data, associated))
        except UnknownKey as error:
            raise UnknownKey(f"a payload of {whose} can't be read: {error}") from None
        except (InvalidTag, ValueError, DecodeError):
            raise PayloadRefused(
                f"a payload of {whose} is refused: with key {key_id!r}, fingerprint "
                f"{self._keys.ring.fingerprint(key_id)}, it does not decrypt. It was changed or cut, or another key "
                "has that id here: compare `standfast keys list` (docs/encryption.md)"
            ) from None


def is_encrypted(payload: Payload) -> bool:
    """Tell whether the payload is one that this codec made."""
    return payload.metadata.get("encoding") == ENCODING


def binding(payload: Payload) -> Binding:
    """Return whose an encrypted payload says it is; true only if it decrypts."""
    namespace, workflow_id = (
        payload.metadata.get(name, b"").decode(errors="replace") for name in (_NAMESPACE, _WORKFLOW)
    )
    return Binding(namespace, workflow_id)


def _associated(key_id: str, own: Binding) -> bytes:
    return canonical_json([CIPHER.decode(), key_id, own.namespace, own.workflow_id])


_associated_own = lru_cache(maxsize=1000)(_associated)  # not of what anybody says, which may be of any length
