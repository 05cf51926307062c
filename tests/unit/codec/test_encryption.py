"""Payloads are encrypted, bound to their workflow, and refused where they don't belong."""

import base64

import pytest
from pydantic import SecretStr
from temporalio.api.common.v1 import Payload
from temporalio.converter import ActivitySerializationContext, SerializationContext, WorkflowSerializationContext

from standfast.codec.converter import payload_codec
from standfast.codec.encryption import Binding, EncryptionCodec, binding
from standfast.codec.keyring import KeyRing, Keys
from standfast.errors import PayloadRefused, UnknownKey
from standfast.settings import Encryption, Settings

RING = KeyRing("new", {"old": b"o" * 32, "new": b"n" * 32})
PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'"ana@example.com"')


def codec(ring: KeyRing = RING, *, accept_plain: bool = False) -> EncryptionCodec:
    return EncryptionCodec(Keys(lambda: ring), accept_plain=accept_plain)


def workflow(workflow_id: str = "ticket/shop/1", namespace: str = "default") -> SerializationContext:
    return WorkflowSerializationContext(namespace=namespace, workflow_id=workflow_id)


def activity(workflow_id: str | None) -> SerializationContext:
    return ActivitySerializationContext(
        namespace="default",
        activity_id="7",
        activity_type="plan",
        activity_task_queue="llm",
        workflow_id=workflow_id,
        workflow_type="Planner",
        is_local=False,
    )


async def encrypted(ring: KeyRing = RING, context: SerializationContext | None = None) -> Payload:
    (payload,) = await codec(ring).with_context(context or workflow()).encode([PLAIN])
    return payload


async def test_nothing_of_a_payload_is_in_what_is_stored() -> None:
    stored = (await encrypted()).SerializeToString()
    assert b"ana@example.com" not in stored
    assert b"json/plain" not in stored


async def test_the_same_payload_never_looks_the_same() -> None:
    assert (await encrypted()).data != (await encrypted()).data


async def test_a_workflow_and_its_activities_read_each_others_payloads() -> None:
    written = [await encrypted(context=context) for context in (workflow(), activity("ticket/shop/1"))]
    for context in (workflow(), activity("ticket/shop/1")):
        assert await codec().with_context(context).decode(written) == [PLAIN, PLAIN]


async def test_old_keys_read_and_the_active_one_writes() -> None:
    old = await encrypted(KeyRing("old", {"old": b"o" * 32}))
    assert await codec().with_context(workflow()).decode([old]) == [PLAIN]
    assert (await encrypted()).metadata["encryption-key-id"] == b"new"


@pytest.mark.parametrize(
    "other", [workflow("ticket/shop/2"), workflow(namespace="staging"), activity("ticket/shop/2")], ids=str
)
async def test_another_workflows_payload_is_refused(other: SerializationContext) -> None:
    with pytest.raises(PayloadRefused, match=r"belongs to ticket/shop/1 of namespace default"):
        await codec().with_context(other).decode([await encrypted()])


async def test_a_payload_that_claims_to_be_another_workflows_does_not_decrypt() -> None:
    stolen = await encrypted()
    stolen.metadata["workflow-id"] = b"ticket/shop/2"
    for reader in (codec(), codec().with_context(workflow("ticket/shop/2"))):
        with pytest.raises(
            PayloadRefused, match=r"payload of ticket/shop/2 .*with key 'new', fingerprint [0-9a-f]{16}"
        ):
            await reader.decode([stolen])


async def test_readers_without_a_context_are_told_whose_a_payload_is() -> None:
    payload = await encrypted()
    assert await codec().decode([payload]) == [PLAIN]
    assert binding(payload) == Binding("default", "ticket/shop/1")


async def test_headers_which_have_no_context_where_they_are_written_can_be_read() -> None:
    header = await codec().encode([PLAIN])
    assert await codec().with_context(workflow()).decode(header) == [PLAIN]


async def test_what_was_never_encrypted_is_passed_on_where_it_is_accepted() -> None:
    assert await codec(accept_plain=True).with_context(workflow()).decode([PLAIN]) == [PLAIN]


async def test_what_was_never_encrypted_is_refused_unless_the_settings_accept_it() -> None:
    settings = Settings(encryption=Encryption(keys={"one": SecretStr(base64.b64encode(b"n" * 32).decode())}))
    strict = payload_codec(settings)
    assert strict is not None
    with pytest.raises(
        PayloadRefused, match=r"payload of ticket/shop/1 .* is not encrypted.* set encryption\.accept_plain = true"
    ):
        await strict.with_context(workflow()).decode([PLAIN])


async def test_readers_without_a_workflow_pass_on_what_was_never_encrypted() -> None:
    assert await codec().decode([PLAIN]) == [PLAIN]


def changed(payload: Payload, *, data: bytes | None = None, **metadata: bytes) -> Payload:
    named = {name.replace("_", "-"): value for name, value in metadata.items()}
    return Payload(metadata={**payload.metadata, **named}, data=payload.data if data is None else data)


@pytest.mark.parametrize("kept", [slice(None, -1), slice(1, None), slice(5), slice(0)], ids=str)
async def test_a_payload_that_was_cut_is_refused(kept: slice) -> None:
    payload = await encrypted()
    with pytest.raises(PayloadRefused, match="was changed or cut"):
        await codec().with_context(workflow()).decode([changed(payload, data=payload.data[kept])])


@pytest.mark.parametrize(
    "change",
    [
        {"data": b"garbage" * 9},
        {"encryption_key_id": b"old"},
        {"namespace": b""},
        {"namespace": b"", "workflow_id": b""},
    ],
    ids=str,
)
async def test_a_payload_that_was_changed_is_refused(change: dict[str, bytes]) -> None:
    with pytest.raises(PayloadRefused):
        await codec().with_context(workflow()).decode([changed(await encrypted(), **change)])


@pytest.mark.parametrize("key_id", [b"lost", b"", b"\xff"])
async def test_a_missing_key_is_named_with_what_to_do(key_id: bytes) -> None:
    payload = changed(await encrypted(), encryption_key_id=key_id)
    with pytest.raises(UnknownKey, match=r"payload of ticket/shop/1 .*key '.*', and this process has new, old; add"):
        await codec().with_context(workflow()).decode([payload])


async def test_another_key_under_the_same_id_is_told_by_its_fingerprint() -> None:
    other = KeyRing("new", {"new": b"x" * 32})
    with pytest.raises(
        PayloadRefused, match=f"key 'new', fingerprint {other.fingerprint('new')}.*another key has that"
    ):
        await codec(other).with_context(workflow()).decode([await encrypted()])


def test_payloads_outside_of_workflows_are_not_let_through_in_plain_text() -> None:
    with pytest.raises(TypeError, match="outside of workflows"):
        codec().with_context(activity(None))
