"""Purge: the content of tickets that ended before a moment is removed wherever it is kept; what was done is known."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
from pydantic import SecretStr
from temporalio.client import Client
from temporalio.service import RPCError

from standfast import audit, cluster
from standfast.domain import Record
from standfast.errors import InvalidInput, NotPermitted, ServiceUnavailable
from standfast.retention import namespaces
from standfast.retention.places import NOBODY, Bucket, Content, Counts, Expired, Histories, Ledger, Place
from standfast.settings import Settings
from standfast.storage.s3 import s3_driver
from standfast.store.connections import Connection, address, open_connection
from standfast.store.migrate import Kind, require_schema

_AT_ONCE = 50  # tickets that are looked at and removed together
_SECONDS = 300  # for one statement: large payloads take a while to remove...
_ANSWER_SECONDS = _SECONDS + 10.0  # ...and the server has to be first to give up
_SESSION = "SELECT set_config('statement_timeout', %s, false)"

Progress = Callable[[int, int], None]
"""Is told how many tickets are done, and of how many."""


class Purged(Record):
    """What a purge has removed, or would remove."""

    before: datetime
    dry_run: bool
    tickets: int
    """That ended before then and had some content left."""
    removed: dict[str, int]
    """What, and how many."""
    left: tuple[str, ...] = ()
    """Targets whose ledger was left alone, as the owner's URL is not set."""


async def purge(
    settings: Settings, *, before: datetime, by: str, histories: bool, dry_run: bool, progress: Progress
) -> Purged:
    """Remove the content of tickets that ended before a moment: payloads, answers of models, images of rows.

    With `histories`, Temporal removes their histories, too. The purge is on the audit chain before it removes anything.
    It may be interrupted at any time: called again, it goes on.

    Raises:
        InvalidInput: the moment is not over, or the control database was used with another Temporal namespace.
        NotPermitted: `control.owner` is not set.
        NotMigrated: our schema is missing in a database, or is not the newest.
        ServiceUnavailable: Temporal or a database can't be reached.
    """
    if before > datetime.now(UTC):
        raise InvalidInput(f"{before.isoformat()} is not over; only what ended in the past can be purged")
    async with AsyncExitStack() as stack:
        stack.enter_context(_temporal_away())
        client = await cluster.connect(settings)
        control = await stack.enter_async_context(_owner(settings.control.owner, "control.owner", Kind.CONTROL))
        await namespaces.check(client, control)
        places = _places(client, control, before)
        owners = {name: target.owner for name, target in settings.targets.items() if target.owner is not None}
        for name, owner in owners.items():
            connection = await stack.enter_async_context(_owner(owner, f"targets.{name}.owner", Kind.TARGET))
            places.append(Ledger(connection=connection, before=before, reason=_reason(before)))
        if settings.storage.s3 is not None:
            driver = await stack.enter_async_context(s3_driver(settings.storage.s3))
            places.append(Bucket(driver=driver, namespace=client.namespace, before=before))
        if histories:
            places.append(Histories(client=client, before=before))
        newest = await _newest(places)
        tickets = await _ended(client, newest, before)
        counts = await _count(places, tickets)
        if not dry_run:
            await _put_on_record(control, by, before, counts, targets=sorted(owners), histories=histories)
            for done, some in enumerate(_batches(tickets)):
                # A ticket may have been submitted again since it was found to have ended.
                await _erase(places, await _ended(client, {ticket: newest[ticket] for ticket in some}, before))
                progress(done * _AT_ONCE + len(some), len(tickets))
    return Purged(
        before=before,
        dry_run=dry_run,
        tickets=sum(ticket != NOBODY for ticket in tickets),
        removed=dict(counts),
        left=tuple(sorted(settings.targets.keys() - owners)),
    )


def _places(client: Client, control: Connection, before: datetime) -> list[Place]:
    kinds = ("payloads", "answers", "shown", "batch_tickets")
    return [
        *(Content(name=kind, connection=control, namespace=client.namespace, before=before) for kind in kinds),
        Expired(connection=control, before=before),
    ]


def _reason(before: datetime) -> str:
    return f"what it changed was purged from the ledger, as all that ended before {before:%Y-%m-%d %H:%M} UTC"


async def _newest(places: Sequence[Place]) -> dict[str, datetime]:
    newest: dict[str, datetime] = {}
    for place in places:
        for ticket, at in (await place.tickets()).items():
            newest[ticket] = max(newest.get(ticket, at), at)
    return newest


async def _ended(client: Client, newest: Mapping[str, datetime], before: datetime) -> list[str]:
    tickets = {ticket: at for ticket, at in newest.items() if ticket != NOBODY}
    nobodys = [NOBODY] if newest.get(NOBODY, before) < before else []
    return nobodys + await namespaces.ended(client, tickets, before)


async def _count(places: Sequence[Place], tickets: Sequence[str]) -> Counts:
    counts = Counts()
    for place in places:
        for some in _batches(tickets):
            counts.update(await place.count(some))
    return counts


async def _erase(places: Sequence[Place], tickets: Sequence[str]) -> None:
    for place in places:
        await place.erase(tickets)


def _batches(tickets: Sequence[str]) -> list[Sequence[str]]:
    return [tickets[first : first + _AT_ONCE] for first in range(0, len(tickets), _AT_ONCE)]


async def _put_on_record(
    control: Connection, by: str, before: datetime, counts: Counts, *, targets: Sequence[str], histories: bool
) -> None:
    await audit.append(
        control,
        key=f"purge/{uuid4()}",
        at=datetime.now(UTC),
        kind=audit.Kind.PURGE,
        workflow_id="",
        actor=by,
        content={
            "before": before.isoformat(),
            "removes": dict(counts),
            "ledgers": list(targets),
            "histories": histories,
        },
    )


@contextmanager
def _temporal_away() -> Iterator[None]:
    try:
        yield
    except RPCError as error:
        raise ServiceUnavailable(f"Temporal: {error.message}; call it again, it goes on") from error


@asynccontextmanager
async def _owner(url: SecretStr | None, setting: str, kind: Kind) -> AsyncIterator[Connection]:
    if url is None:
        raise NotPermitted(f"only a database's owner may remove what is kept there; set {setting} for this command")
    secret = url.get_secret_value()
    try:
        async with await open_connection(secret, application="standfast purge") as connection:
            await connection.set_autocommit(True)
            connection.answer_seconds = _ANSWER_SECONDS
            await connection.execute(_SESSION, (f"{_SECONDS}s",))
            await require_schema(connection, kind)
            yield connection
    except psycopg.errors.InsufficientPrivilege as error:
        raise NotPermitted(f"{address(secret)}: {error.diag.message_primary}; {setting} must name the owner") from error
    except psycopg.OperationalError as error:
        raise ServiceUnavailable(f"{address(secret)}: {str(error).strip()}; call it again, it goes on") from error
