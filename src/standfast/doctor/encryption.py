"""The keys that payloads are encrypted with."""

import asyncio

from standfast.codec.keyring import read_ring
from standfast.doctor.check import Check
from standfast.errors import InvalidInput
from standfast.settings import Encryption

_OF_OTHERS = 0o077


async def inspect_encryption(encryption: Encryption) -> list[Check]:
    """Check that payloads are encrypted, that the key ring can be read, and that nobody else can read its file."""
    ok, message = await _keys(encryption)
    return [Check(name="encryption keys", ok=ok, message=message)]


async def _keys(encryption: Encryption) -> tuple[bool, str]:
    if not encryption.enabled:
        return False, "encryption.enabled is false: what goes to Temporal can be read there; set it to true"
    try:
        ring = await asyncio.to_thread(read_ring, encryption)
    except InvalidInput as error:
        return False, str(error)
    if encryption.file is not None and encryption.file.stat().st_mode & _OF_OTHERS:
        return False, f"others can read {encryption.file}; chmod 600 {encryption.file}"
    others = len(ring.keys) - 1
    return True, f"{ring.active} encrypts, fingerprint {ring.fingerprint(ring.active)}; {others} more can decrypt"
