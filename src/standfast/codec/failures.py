"""How exceptions become failures in histories: encrypted, and short enough to be kept while they are tried again."""

import json
from itertools import accumulate, takewhile

from temporalio.api.failure.v1 import Failure
from temporalio.converter import DefaultFailureConverter, PayloadConverter

MESSAGE_BYTES = 450
STACK_TRACE_BYTES = 250
"""In JSON, both."""
DETAILS_BYTES = 150
CAUSES = 2
"""Behind the failure itself. Workers log whole stack traces, without the words of exceptions."""


class ShortFailures(DefaultFailureConverter):
    """Encodes message and stack trace of a failure and of its causes, for a codec to encrypt, cut to what is kept.

    Of an activity that is tried again Temporal keeps 4 KiB of the last failure, and nothing that can be read of a
    larger one (`limit.mutableStateActivityFailureSize`).
    """

    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure) -> None:
        """See the base class."""
        DefaultFailureConverter().to_failure(exception, payload_converter, failure)
        info = failure.application_failure_info
        if info.details.ByteSize() > DETAILS_BYTES and not info.non_retryable:
            info.ClearField("details")  # of a model's error, say: the provider's whole answer
        _shorten(failure, CAUSES)
        _encode(failure, payload_converter)


def _shorten(failure: Failure, causes: int) -> None:
    failure.message = _cut(failure.message, MESSAGE_BYTES)
    failure.stack_trace = _cut(failure.stack_trace[::-1], STACK_TRACE_BYTES)[::-1]  # where it happened is at the end
    if not causes:
        failure.ClearField("cause")
    elif failure.HasField("cause"):
        if failure.cause.HasField("application_failure_info"):
            failure.cause.application_failure_info.ClearField("details")
        _shorten(failure.cause, causes - 1)


def _cut(text: str, size: int) -> str:
    """Return as much of the beginning as fits into `size` bytes of JSON."""
    fits = accumulate(len(json.dumps(character, ensure_ascii=False).encode(errors="replace")) - 2 for character in text)
    length = sum(1 for _ in takewhile(lambda used: used <= size, fits))
    return text if length == len(text) else text[: length - 1] + "…"


def _encode(failure: Failure, payload_converter: PayloadConverter) -> None:
    if not failure.HasField("encoded_attributes"):  # else it has come from elsewhere, and they say the same
        said = {"message": failure.message, "stack_trace": failure.stack_trace}
        failure.encoded_attributes.CopyFrom(payload_converter.to_payloads([said])[0])
    failure.message, failure.stack_trace = "Encoded failure", ""
    if failure.HasField("cause"):
        _encode(failure.cause, payload_converter)
