"""Logs tell what failed and where, and quote nobody's tickets, rows or models."""

import logging
import sys

import pytest

from standfast.errors import InvalidInput, PayloadLost, ServiceUnavailable, UnknownKey
from standfast.logs import Discreet


def logged(error: Exception, cause: Exception | None = None) -> str:
    try:
        raise error from cause
    except type(error):
        record = logging.LogRecord("test", logging.ERROR, __file__, 1, "activity failed", (), sys.exc_info())
    return Discreet("%(message)s").format(record)


def test_the_words_of_an_exception_and_of_its_causes_stay_out() -> None:
    text = logged(InvalidInput("ana@example.com is no integer"), KeyError("ana@example.com"))
    assert "ana@" not in text
    assert text.startswith("activity failed\nbuiltins.KeyError\n")
    assert text.endswith("standfast.errors.InvalidInput")
    assert f'File "{__file__}"' in text


@pytest.mark.parametrize(
    "error",
    [ServiceUnavailable("db:5432 is away"), UnknownKey("add key 'k2'"), PayloadLost("payload 1f of t/1 is gone")],
    ids=repr,
)
def test_errors_about_services_keys_and_payloads_say_which(error: Exception) -> None:
    assert logged(RuntimeError("secret"), error).splitlines()[1].endswith(str(error))


def test_what_another_handler_has_made_of_an_exception_stays_with_that_one() -> None:
    error = InvalidInput("ana@example.com is no integer")
    try:
        raise error
    except InvalidInput:
        record = logging.LogRecord("test", logging.ERROR, __file__, 1, "activity failed", (), sys.exc_info())
    assert "ana@" in logging.Formatter("%(message)s").format(record)
    assert "ana@" not in Discreet("%(message)s").format(record)
