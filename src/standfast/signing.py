"""Signatures on decisions: the process that authenticated a person signs, the core pool verifies. Ed25519."""

import base64
import binascii
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from standfast.decision import Decision, Mode, Proof, Refusal
from standfast.domain import canonical_json
from standfast.errors import InvalidInput

MAX_AGE = timedelta(minutes=10)
MAX_CLOCK_SKEW = timedelta(minutes=1)


def new_key_pair() -> tuple[str, str]:
    """Return a new private and its public key, each 32 raw bytes in base64."""
    private = Ed25519PrivateKey.generate()
    return (
        base64.b64encode(private.private_bytes_raw()).decode(),
        base64.b64encode(private.public_key().public_bytes_raw()).decode(),
    )


def sign(decision: Decision, *, workflow_id: str, mode: Mode, key_id: str, private_key: str) -> Decision:
    """Return `decision` with a proof that the caller has authenticated `decision.by`.

    Raises:
        InvalidInput: the key is not 32 bytes in base64.
    """
    proof = Proof(id=secrets.token_hex(16), key_id=key_id, mode=mode, issued_at=datetime.now(UTC), signature="unsigned")
    unsigned = decision.model_copy(update={"proof": proof})
    try:
        key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(private_key, validate=True))
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"review.signing_key is not 32 bytes in base64: {error}") from None
    signature = base64.b64encode(key.sign(canonical_json(unsigned.signed_content(workflow_id)))).decode()
    return unsigned.model_copy(update={"proof": proof.model_copy(update={"signature": signature})})


def verify(
    decision: Decision, *, workflow_id: str, received_at: datetime, public_keys: Mapping[str, str]
) -> Refusal | None:
    """Return what is wrong with the decision's proof, None if nothing is."""
    proof = decision.proof
    if proof is None:
        return Refusal.UNSIGNED
    if proof.key_id not in public_keys:
        return Refusal.BAD_SIGNATURE
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_keys[proof.key_id], validate=True))
        key.verify(
            base64.b64decode(proof.signature, validate=True), canonical_json(decision.signed_content(workflow_id))
        )
    except (InvalidSignature, binascii.Error, ValueError):
        return Refusal.BAD_SIGNATURE
    if not received_at - MAX_AGE <= proof.issued_at <= received_at + MAX_CLOCK_SKEW:
        return Refusal.EXPIRED_SIGNATURE
    return None
