"""Failures are short enough for Temporal to keep them while an activity is tried again, and say what matters."""

import base64
from typing import NoReturn

import pytest
from temporalio import exceptions
from temporalio.api.failure.v1 import Failure
from temporalio.converter import WorkflowSerializationContext
from temporalio.exceptions import ApplicationError, TimeoutType

from standfast.codec.converter import data_converter
from standfast.codec.keyring import KeyRing
from standfast.settings import Encryption, Settings

KEPT = 4096  # bytes that Temporal keeps, `limit.mutableStateActivityFailureSize`
WORKFLOW = f"ticket/{'t' * 63}/{'i' * 128}"  # as long as one can be
RING = KeyRing.new()


def settings() -> Settings:
    keys = {key_id: base64.b64encode(key).decode() for key_id, key in RING.keys.items()}
    return Settings(encryption=Encryption.model_validate({"keys": keys}))


def failed(depth: int, words: str, *details: str) -> BaseException:
    """An error with `depth` causes, each raised in a function of its own."""
    try:
        _fail(depth, words, *details)
    except (ApplicationError, ValueError) as error:
        return error


def _fail(depth: int, words: str, *details: str) -> NoReturn:
    if depth:
        raise ApplicationError(f"{depth}: {words}", *details, type="some-error") from failed(depth - 1, words, *details)
    raise ValueError(f"0: {words}")


@pytest.mark.parametrize(
    "words", ["short", "long " * 1000, "ü€" * 2000, '"\n' * 2000], ids=["short", "long", "ü", "escaped"]
)
@pytest.mark.parametrize("depth", [0, 2, 9])
@pytest.mark.parametrize("details", [(), ("busy",), ("<html>" * 2000,)], ids=["no details", "details", "large details"])
async def test_a_failure_is_kept_whatever_it_says(words: str, depth: int, details: tuple[str, ...]) -> None:
    converter = data_converter(settings()).with_context(WorkflowSerializationContext("default", WORKFLOW))
    failure = Failure()
    await converter.encode_failure(failed(depth, words, *details), failure)
    assert failure.ByteSize() <= KEPT
    error = await converter.decode_failure(failure)
    assert isinstance(error, ApplicationError)
    assert error.message.startswith(f"{depth}: {words[:50]}")
    causes = 0
    while (error := error.__cause__) is not None:  # type: ignore[assignment]
        causes += 1
        assert str(depth - causes) in str(error)
    assert causes == min(depth, 2)


async def test_a_failure_that_is_passed_on_says_what_it_said() -> None:
    converter = data_converter(settings()).with_context(WorkflowSerializationContext("default", WORKFLOW))
    sent, passed_on = Failure(), Failure()
    await converter.encode_failure(failed(2, "words"), sent)
    await converter.encode_failure(await converter.decode_failure(sent), passed_on)
    assert b"words" not in passed_on.SerializeToString()
    error: BaseException | None = await converter.decode_failure(passed_on)
    for depth in (2, 1, 0):
        assert f"{depth}: words" in str(error)
        assert error is not None
        error = error.__cause__


async def test_a_cause_stays_of_its_kind() -> None:
    converter = data_converter(settings()).with_context(WorkflowSerializationContext("default", WORKFLOW))
    late = exceptions.TimeoutError("late", type=TimeoutType.HEARTBEAT, last_heartbeat_details=[])
    error = ApplicationError("no answer")
    error.__cause__ = late
    failure = Failure()
    await converter.encode_failure(error, failure)
    read = (await converter.decode_failure(failure)).__cause__
    assert isinstance(read, exceptions.TimeoutError)
    assert read.type is TimeoutType.HEARTBEAT
