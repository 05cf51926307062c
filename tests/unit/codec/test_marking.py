"""Large payloads are recognized when they are made again, by those who have the key."""

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.converter import WorkflowSerializationContext

from standfast.codec.encryption import EncryptionCodec
from standfast.codec.keyring import KeyRing, Keys
from standfast.codec.marking import MarkingCodec
from standfast.errors import PayloadTooLarge
from standfast.storage.contents import MAX_BYTES, content_of, unmarked

THRESHOLD = 1000
RING = KeyRing.new()
OURS, OTHERS = "ticket/shop/T-1", "ticket/shop/T-2"


def payload(text: str, **metadata: bytes) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"} | metadata, data=text.encode())


LARGE = payload("x" * THRESHOLD)


def codec(workflow_id: str = OURS, ring: KeyRing = RING) -> MarkingCodec:
    context = WorkflowSerializationContext(namespace="default", workflow_id=workflow_id)
    return MarkingCodec(EncryptionCodec(Keys(lambda: ring), accept_plain=False), THRESHOLD).with_context(context)


async def mark(plain: Payload, sealing: MarkingCodec) -> bytes | None:
    (encrypted,) = await sealing.encode([plain])
    return unmarked(encrypted)[1]


async def test_the_same_content_of_a_workflow_has_the_same_mark_in_every_process() -> None:
    first, second = await codec().encode([LARGE]), await codec().encode([LARGE])
    assert first[0].data != second[0].data
    assert unmarked(first[0])[1] == unmarked(second[0])[1] is not None


@pytest.mark.parametrize(
    ("other", "sealing"),
    [
        (payload("x" * (THRESHOLD + 1)), codec()),
        (payload("x" * THRESHOLD, encoding=b"binary/plain"), codec()),
        (payload("x" * THRESHOLD, more=b""), codec()),
        (LARGE, codec(OTHERS)),
        (LARGE, codec(ring=KeyRing.new())),
    ],
)
async def test_other_content_another_workflow_and_another_key_make_another_mark(
    other: Payload, sealing: MarkingCodec
) -> None:
    assert await mark(other, sealing) != await mark(LARGE, codec())


async def test_what_the_storage_will_take_has_a_mark_and_what_stays_in_temporal_has_none() -> None:
    (empty,) = await codec().encode([payload("")])
    for length in range(THRESHOLD - empty.ByteSize() - 20, THRESHOLD):
        plain, marked = unmarked((await codec().encode([payload("x" * length)]))[0])
        assert (marked is not None) == (plain.ByteSize() >= THRESHOLD)


async def test_without_its_mark_a_payload_is_as_it_was_encrypted() -> None:
    (encrypted,) = await codec().encode([LARGE])
    plain, _ = unmarked(encrypted)
    (reference,) = await EncryptionCodec(Keys(lambda: RING), accept_plain=False).encode([LARGE])
    assert plain.metadata.keys() == reference.metadata.keys()
    assert await codec().decode([plain]) == [LARGE]


def test_a_payload_beyond_every_limit_is_refused_by_its_size() -> None:
    assert content_of(LARGE)
    with pytest.raises(PayloadTooLarge, match=f"at most {MAX_BYTES} are allowed"):
        content_of(Payload(data=bytes(MAX_BYTES + 1)))
