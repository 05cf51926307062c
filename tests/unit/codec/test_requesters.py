"""Marks of requesters: one for each key, the same for one person, and nothing that can be guessed without a key."""

import hashlib
from dataclasses import replace

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter

from standfast.codec.encryption import EncryptionCodec
from standfast.codec.keyring import KeyRing, Keys
from standfast.codec.marking import MarkingCodec
from standfast.codec.requesters import requester_marks

ANA = "ana@example.com"


def encrypting(ring: KeyRing, *, storing: bool = False) -> DataConverter:
    codec = EncryptionCodec(Keys(lambda: ring), accept_plain=False)
    return replace(pydantic_data_converter, payload_codec=MarkingCodec(codec, 65_536) if storing else codec)


@pytest.mark.parametrize("storing", [False, True])
def test_a_person_has_one_mark_however_the_name_is_written(storing: bool) -> None:
    converter = encrypting(KeyRing.new(), storing=storing)
    assert requester_marks(converter, ANA) == requester_marks(converter, f" {ANA.upper()}\t")
    assert requester_marks(converter, ANA) != requester_marks(converter, "ben@example.com")


def test_each_key_makes_a_mark_of_its_own_and_the_active_ones_comes_first() -> None:
    old = KeyRing.new()
    new = old.rotated()
    (before,) = requester_marks(encrypting(old), ANA)
    now, *earlier = requester_marks(encrypting(new), ANA)
    assert earlier == [before]
    assert now != before


def test_a_mark_is_no_hash_of_the_name_alone() -> None:
    (mark,) = requester_marks(encrypting(KeyRing.new()), ANA)
    assert mark not in hashlib.sha256(ANA.encode()).hexdigest()
    assert mark != requester_marks(pydantic_data_converter, ANA)[0]
    assert mark != requester_marks(encrypting(KeyRing.new()), ANA)[0]


def test_without_encryption_people_are_still_told_apart() -> None:
    assert requester_marks(pydantic_data_converter, ANA) != requester_marks(pydantic_data_converter, "ben@example.com")
