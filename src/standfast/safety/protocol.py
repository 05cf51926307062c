"""Running one statement of a plan by the extended protocol, in which the server itself refuses a second statement.

psycopg's cursors would run several statements in one call if there are no parameters, and choose parameter types on
the client. Here the server infers the types, and the values follow them.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import generators, pq
from psycopg.errors import error_from_result

from standfast.errors import StandfastError
from standfast.plan import Operation
from standfast.store.connections import Connection

_UNNAMED = b""
_JSON_OIDS = frozenset({114, 3802})  # json, jsonb: fixed in PostgreSQL's catalog
_COPYING = frozenset({pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH})
# Of another transaction, or of the server: it only reads now, is short of disk, memory or connections, or going down.
_OTHERS_FAULT = ("25006", "40", "531", "532", "533", "55P03", "57P", "58")


class OperationRefused(StandfastError):  # noqa: N818 - reads as what it is where it is caught
    """The server refused an operation of the plan."""

    code = "operation-refused"

    def __init__(self, index: int, sqlstate: str, message: str) -> None:
        super().__init__(f"operation {index}: {message} ({sqlstate})")
        self.index = index
        self.sqlstate = sqlstate
        self.message = message


async def run_operation(connection: Connection, operation: Operation, index: int) -> None:
    """Run one operation in the connection's open transaction; rows that it returns are read and dropped one by one.

    Raises:
        OperationRefused: the server refused it, or a parameter doesn't fit the type that the server inferred.
        psycopg.Error: no fault of the operation: the connection was lost, the server is in trouble, or another
            transaction was in its way (serialization failure, deadlock, lock time-out).
    """
    try:
        async with connection.lock:
            values = await _prepare(connection, operation, index)
            connection.pgconn.send_query_prepared(_UNNAMED, values)
            connection.pgconn.set_single_row_mode()
            try:
                last = await _last_result(connection)
            except asyncio.CancelledError:
                await _last_result(connection)  # psycopg has ended the statement, but read no further than its error
                raise
            if last is not None and last.status in _COPYING:
                connection.pgconn.finish()  # nothing else ends a COPY for sure
                raise OperationRefused(index, "0A000", "COPY is not an operation of a plan")
            if last is not None:
                _check(connection, last)
    except psycopg.Error as error:
        if error.sqlstate is None or connection.closed or error.sqlstate.startswith(_OTHERS_FAULT):
            raise
        raise OperationRefused(index, error.sqlstate, error.diag.message_primary or str(error)) from error


async def _last_result(connection: Connection) -> pq.abc.PGresult | None:
    """Return the last result of a statement, which is its error if it has one; the connection is idle after it.

    But for a COPY: that has to be ended.
    """
    last: pq.abc.PGresult | None = None
    while (result := await connection.wait(generators.fetch(connection.pgconn))) is not None:
        last = result
        if result.status in _COPYING:
            break
    return last


async def _prepare(connection: Connection, operation: Operation, index: int) -> list[bytes | None]:
    """Prepare the statement and return the parameters in the form of the types that the server inferred."""
    pgconn = connection.pgconn
    try:
        text = operation.sql.encode()
    except UnicodeEncodeError as error:
        raise OperationRefused(index, "22021", f"the statement is not valid Unicode: {error.reason}") from None
    if b"\x00" in text:
        raise OperationRefused(index, "22021", "the statement holds a NUL, where the server would stop reading")
    pgconn.send_prepare(_UNNAMED, text)
    for result in await connection.wait(generators.execute(pgconn)):
        _check(connection, result)
    if not operation.params:
        return []  # a statement that takes some is refused when it runs
    pgconn.send_describe_prepared(_UNNAMED)
    (described,) = await connection.wait(generators.execute(pgconn))
    _check(connection, described)
    if described.nparams != len(operation.params):
        raise OperationRefused(
            index,
            "08P01",
            f"the statement takes {described.nparams} parameters, the plan gives {len(operation.params)}",
        )
    try:
        return [_text(value, described.param_type(n) or 0) for n, value in enumerate(operation.params)]
    except ValueError as error:
        raise OperationRefused(index, "22023", str(error)) from None


def _check(connection: Connection, result: pq.abc.PGresult) -> None:
    if result.status == pq.ExecStatus.FATAL_ERROR:
        raise error_from_result(result, connection.info.encoding)


def _text(value: Any, oid: int) -> bytes | None:
    """Return a JSON value in PostgreSQL's text format for a parameter of type `oid`."""
    if value is None:
        return None
    if oid in _JSON_OIDS and not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).encode()
    if isinstance(value, dict):
        msg = "an object is given for a parameter that is neither json nor jsonb"
        raise ValueError(msg)  # noqa: TRY004 - the value is wrong for this parameter, its type is fine
    text = "".join(_array(value)) if isinstance(value, list) else _scalar(value)
    if "\x00" in text:
        msg = "a parameter holds a NUL, which PostgreSQL can't store"
        raise ValueError(msg)
    return text.encode()


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


def _array(values: list[Any]) -> Iterator[str]:
    """Yield the pieces of an array literal; strings are always quoted, so that NULL and commas stay text."""
    yield "{"
    for position, value in enumerate(values):
        if position:
            yield ","
        if value is None:
            yield "NULL"
        elif isinstance(value, list):
            yield from _array(value)
        else:
            text = json.dumps(value) if isinstance(value, dict) else _scalar(value)
            yield '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    yield "}"
