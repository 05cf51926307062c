"""What a PostgreSQL server is set to: whether its commits last, who may connect, and what stands in between."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from standfast.doctor import clocks
from standfast.doctor.check import Check
from standfast.store.connections import Connection, address, open_connection
from standfast.store.databases import POOL_SIZE
from standfast.store.sql import statements

_SQL = statements(__package__, "server.sql")
_OLDEST, _NEWEST = 14, 18
_LONGEST = timedelta(seconds=60)  # no transaction of ours takes longer
_Row = dict[str, Any]


async def inspect_server(setting: str, url: str, connection: Connection, *, writes: bool) -> list[Check]:
    """Check the server of `url`; `writes` if commits of ours have to last there. One check if all is well."""
    asked = clocks.now()
    row = await (await connection.execute(_SQL["server"])).fetchone() or {}
    difference = clocks.ahead(row["clock"], asked=asked, answered=clocks.now())
    await connection.commit()
    problems = dict(_problems(row))
    if writes:
        problems |= dict(_writing(row))
    if (apart := clocks.complaint(difference)) is not None:
        problems["clock"] = apart
    if row["pid"] != connection.info.backend_pid and await _shared(url, row["pid"]):
        problems["pooler"] = (
            "a connection pooler in transaction mode is in between, which mixes the settings of sessions; "
            "connect to PostgreSQL itself, or set the pooler to session mode"
        )
    if problems:
        return [Check(name=f"{setting} {what}", ok=False, message=message) for what, message in problems.items()]
    found = f"PostgreSQL {row['version']} at {address(url)} as {connection.info.user}"
    return [Check(name=f"{setting} server", ok=True, message=f"{found}, room for {row['room']} connections")]


def _problems(row: _Row) -> Iterator[tuple[str, str]]:
    if not _OLDEST <= row["major"] <= _NEWEST:
        yield "server", f"is PostgreSQL {row['version']}; Standfast works with {_OLDEST} to {_NEWEST}"
    if not row["track_counts"]:
        yield "counts", "track_counts is off; set it on in the server's configuration: changed rows are counted with it"
    if row["room"] < POOL_SIZE:
        room = f"the server has room for {max(row['room'], 0)} connections of this role"
        yield "room", f"{room}, and one busy process opens {POOL_SIZE} or more; raise {row['limited_by']}"
    ends_after = timedelta(milliseconds=row["transaction_timeout"])
    if timedelta() < ends_after < _LONGEST:
        yield "transaction_timeout", f"is {ends_after.total_seconds():g} s; set it to 0 or to a minute for this role"


def _writing(row: _Row) -> Iterator[tuple[str, str]]:
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        if row[name] == "off":
            yield name, "is off: a commit that was acknowledged can be lost in a crash; set it on"
    if row["standby"]:
        yield "standby", "the server is a hot standby, which takes no writes; give the primary's URL"
    elif row["read_only"]:
        yield (
            "default_transaction_read_only",
            "is on: nothing can be written; reset it for the role, the database or the server, where it was set",
        )


async def _shared(url: str, pid: int) -> bool:
    """Tell whether a second connection is served by the same process: then sessions are not ours alone."""
    second = await open_connection(url, schemas=("pg_catalog",), application="standfast doctor")
    async with second:
        row = await (await second.execute(_SQL["server"])).fetchone() or {}
    return bool(row["pid"] == pid)
