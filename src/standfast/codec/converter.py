"""The one data converter: whatever goes to Temporal or comes from there goes through it, in every process."""

from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import (
    CompositePayloadConverter,
    DataConverter,
    ExternalStorage,
    PayloadCodec,
)

from standfast.codec.encryption import EncryptionCodec
from standfast.codec.failures import ShortFailures
from standfast.codec.keyring import Keys, read_ring
from standfast.codec.marking import MarkingCodec
from standfast.settings import Settings


def sharing(kind: type[CompositePayloadConverter]) -> type[CompositePayloadConverter]:
    """Return `kind` as a class whose instances share what they know of types.

    temporalio makes an instance for each workflow, and for nearly everything that one sends or gets.
    """
    shared = tuple(kind().converters.values())

    class Sharing(kind):  # type: ignore[valid-type, misc]
        def __init__(self) -> None:
            CompositePayloadConverter.__init__(self, *shared)

    return Sharing


_PayloadConverter = sharing(PydanticPayloadConverter)


def data_converter(settings: Settings, storage: ExternalStorage | None = None) -> DataConverter:
    """Return the converter that the settings make: pydantic's JSON, then encryption, then `storage` for what is large.

    Messages and stack traces of failures are payloads, too. Without storage, payloads that are there can't be read.

    Raises:
        InvalidInput: there is no key, or the key ring can't be read.
    """
    encryption = payload_codec(settings)
    codec: PayloadCodec | None = encryption
    if encryption is not None and storage is not None:
        codec = MarkingCodec(encryption, storage.payload_size_threshold)
    return DataConverter(
        payload_converter_class=_PayloadConverter,
        payload_codec=codec,
        failure_converter_class=ShortFailures,
        external_storage=storage,
    )


def payload_codec(settings: Settings) -> EncryptionCodec | None:
    """Return the codec that encrypts, None if the settings turn encryption off.

    Raises:
        InvalidInput: there is no key, or the key ring can't be read.
    """
    encryption = settings.encryption
    if not encryption.enabled:
        return None
    return EncryptionCodec(Keys(lambda: read_ring(encryption)), accept_plain=encryption.accept_plain)
