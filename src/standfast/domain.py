"""What all domain objects share: they are frozen, and their digests are over canonical JSON (RFC 8785)."""

import hashlib
from typing import Annotated, Any

import rfc8785
from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue

from standfast.errors import InvalidInput

MASK = "•••"
"""Stands for the value of a secret or personal column wherever people or models read."""
MAX_SAFE_INTEGER = 2**53 - 1  # beyond it JSON numbers lose digits in other languages, and RFC 8785 has no form for them


class Record(BaseModel):
    """An object that travels between steps; readers of another version ignore what they don't know."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Submission(BaseModel):
    """An object that comes from outside; unknown fields are refused, so that a typo is not silently lost."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def canonical_json(value: Any) -> bytes:
    """Return the RFC 8785 form of a JSON value.

    Raises:
        InvalidInput: a number has no canonical form (NaN, or an integer beyond 2^53 - 1).
    """
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise InvalidInput(f"{error}; write a number beyond 2^53 as a string, and no half surrogate pairs") from error


def digest(value: Any) -> str:
    """Return the SHA-256 over the canonical JSON of `value` as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _exact(value: JsonValue) -> JsonValue:
    if isinstance(value, int | float) and abs(value) > MAX_SAFE_INTEGER:
        msg = f"{value} is beyond 2^53 - 1; write it as a string"
        raise ValueError(msg)
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 1 and 1.0 are the same JSON number: they have one digest, so they run as one value
    if isinstance(value, list):
        return [_exact(item) for item in value]
    if isinstance(value, dict):
        return {name: _exact(item) for name, item in value.items()}
    return value


ExactJson = Annotated[JsonValue, AfterValidator(_exact)]
"""A JSON value whose numbers survive every JSON reader."""
