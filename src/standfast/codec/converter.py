"""The one data converter: whatever goes to Temporal or comes from there goes through it, in every process."""

from dataclasses import replace

from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes, PayloadCodec

from standfast.codec.encryption import EncryptionCodec
from standfast.codec.keyring import Keys, read_ring
from standfast.settings import Settings


def data_converter(settings: Settings) -> DataConverter:
    """Return the converter that the settings make: pydantic's JSON, then encryption.

    Messages and stack traces of failures are payloads, too.

    Raises:
        InvalidInput: there is no key, or the key ring can't be read.
    """
    return replace(
        pydantic_data_converter,
        payload_codec=payload_codec(settings),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )


def payload_codec(settings: Settings) -> PayloadCodec | None:
    """Return the codec that encrypts, None if the settings turn encryption off.

    Raises:
        InvalidInput: there is no key, or the key ring can't be read.
    """
    encryption = settings.encryption
    if not encryption.enabled:
        return None
    return EncryptionCodec(Keys(lambda: read_ring(encryption)), accept_plain=encryption.accept_plain)
