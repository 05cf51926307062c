"""The audit chain: an append-only record in the control database, each row hashed together with the one before."""

from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from temporalio import activity

from standfast import steps
from standfast.domain import Record, canonical_json, digest
from standfast.errors import InvalidInput
from standfast.store.connections import Connection
from standfast.store.sql import statements

GENESIS = "0" * 64
SYSTEM = "standfast"
"""The actor of what no person does."""
EACH_ATTEMPT = frozenset({steps.VALIDATE.name, steps.REVIEW.name})
"""Steps whose attempts may come to different results: rows, constraints or keys are others by then."""
_SQL = statements(__package__, "audit.sql")
_AT_ONCE = 1000  # rows that are fetched together


class Kind(StrEnum):
    """What a row is about. What is in its content stands beside it; a person's words are in decisions alone."""

    SUBMISSION = "submission"
    """`ticket_digest`, `undo_of`; the actor is the requester, as the ticket names him."""
    VERDICT = "verdict"
    """`verdict`, `plan_digest`, `fingerprint`, `rules` (what each found), `approvals_required`."""
    VIEW = "view"
    """`plan_digest`, `fingerprint` that a signed-in person was shown while the plan waited; `by` page or API; the hash
    of all that was `shown`, see standfast.shown."""
    REMINDER = "reminder"
    """`plan_digest` that waits in vain, `after` how long, and who may approve from then on."""
    DECISION = "decision"
    """The decision's record, see standfast.decision, and the `fingerprint` that it names."""
    REFUSED = "decision.refused"
    """The same of a decision that changed nothing."""
    UNHEARD = "decision.unheard"
    """The same of a decision that came when its ticket had ended, or took no more of them."""
    CANCEL = "cancel"
    """Nothing: the actor has asked the ticket to end."""
    REHEARSE = "rehearse"
    """Nothing: the actor has asked to validate a waiting plan anew."""
    END = "end"
    """`state` in which a ticket ended that has executed nothing."""
    EXECUTION = "execution"
    """`state`, `plan_digest`, `fingerprint`, `executed_at`, `approved_by`, and `counts` of what was changed."""
    UNDO = "undo"
    """The same of a ticket that took another one back, and `undo_of`."""
    CONSTRAINTS = "constraints"
    """`version`, `note`, `document_digest`; the actor has changed the constraints of `constraints/TARGET`."""
    KEYS = "keys.changed"
    """`key` that is the active one now, by its id and `fingerprint`, and the one `before`."""
    SIGN_IN = "sign-in"
    """`by` link, provider or proxy, and `scopes`; the actor has a session from now on: `sessions/NUMBER`."""
    SIGN_IN_REFUSED = "sign-in.refused"
    """`by` what, and the `reason`; once an hour for each. The actor is known, or is `standfast`."""
    SIGN_OUT = "sign-out"
    """The actor has ended his session."""
    SESSION_REVOKED = "session.revoked"
    """The actor has ended the session of `user`."""
    TOKEN_CREATED = "token.created"  # noqa: S105 - a kind of row
    """`user`, `scopes`, `expires_at`; the actor has created the API token `tokens/NAME`."""
    TOKEN_REVOKED = "token.revoked"  # noqa: S105 - a kind of row
    """The actor has revoked the token of `user`."""
    PURGE = "purge"
    """Tickets that ended `before` a moment lost their content; if `histories`, also what Temporal had of them."""


class Row(Record):
    """One row of the chain."""

    sequence: int
    key: str
    """What is recorded once; see `append_step` for what an activity records."""
    at: datetime
    kind: str
    workflow_id: str
    actor: str
    content: Any
    previous_hash: str
    hash: str

    def exported(self) -> dict[str, Any]:
        """Return the row as JSON: what was hashed, under the names under which it was, with `sequence` and `hash`."""
        hashed = _hashed(self.model_dump(exclude={"sequence", "hash", "previous_hash"}), self.previous_hash)
        return {"sequence": self.sequence, **hashed, "hash": self.hash}


class Head(Record):
    """The newest row: whoever keeps its hash elsewhere can tell later whether the chain still contains it."""

    sequence: int
    at: datetime
    hash: str


def row_hash(*, key: str, at: datetime, kind: str, workflow_id: str, actor: str, content: Any, previous: str) -> str:
    """Return the hash of one row: SHA-256 over its canonical JSON, the previous row's hash included.

    Raises:
        InvalidInput: the content has no canonical JSON.
    """
    fields = {"key": key, "at": at, "kind": kind, "workflow_id": workflow_id, "actor": actor, "content": content}
    return digest(_hashed(fields, previous))


def _hashed(fields: Mapping[str, Any], previous: str) -> dict[str, Any]:
    return {**fields, "at": fields["at"].astimezone(UTC).isoformat(), "previous": previous}


async def append(
    connection: Connection,
    *,
    key: str,
    at: datetime,
    kind: Kind,
    workflow_id: str,
    actor: str,
    content: Mapping[str, Any],
) -> str:
    """Append one row and return its hash; the same `key` again changes nothing and returns the row's that has it.

    On a connection without an open transaction it is one round trip, and no client that freezes holds others up.

    Raises:
        InvalidInput: the content has no canonical JSON.
    """
    row = {
        "key": key,
        "at": at.astimezone(UTC).isoformat(),
        "kind": kind,
        "workflow_id": workflow_id,
        "actor": actor,
        "content": canonical_json(dict(content)).decode(),
    }
    appended = await (await connection.execute(_SQL["append"], row)).fetchone()
    assert appended is not None
    hashed: str = appended["hash"]
    return hashed


async def append_step(
    connection: Connection,
    kind: Kind,
    *,
    actor: str = SYSTEM,
    content: Mapping[str, Any],
) -> str:
    """Append what the running activity has to record; see `append`.

    The key is RUN ID/ACTIVITY ID, so that all attempts record once. Of steps in `EACH_ATTEMPT` each attempt has a row,
    with /ATTEMPT in its key: the one that completed is what the workflow was told.
    """
    info = activity.info()
    attempt = f"/{info.attempt}" if info.activity_type in EACH_ATTEMPT else ""
    return await append(
        connection,
        key=f"{info.workflow_run_id}/{info.activity_id}{attempt}",
        at=info.scheduled_time,
        kind=kind,
        workflow_id=info.workflow_id or "",
        actor=actor,
        content=content,
    )


async def head(connection: Connection) -> Head | None:
    """Return the chain's newest row, None if the chain is empty."""
    row = await (await connection.execute(_SQL["head"])).fetchone()
    return None if row is None else Head.model_validate(row)


async def newest(connection: Connection, limit: int, workflow_id: str | None = None) -> list[Row]:
    """Return the newest rows, of all or of one ticket, oldest first."""
    cursor = await connection.execute(_SQL["newest"], {"limit": limit, "workflow_id": workflow_id})
    return [Row.model_validate(row) for row in reversed(await cursor.fetchall())]


async def rows(connection: Connection, since: datetime | None = None) -> AsyncIterator[Row]:
    """Yield the chain from its first row on, or from the first one that is not older than `since`."""
    async with connection.cursor("audit_rows", withhold=True) as cursor:
        cursor.itersize = _AT_ONCE
        await cursor.execute(_SQL["rows"], {"since": since})
        async for row in cursor:
            yield Row.model_validate(row)


def wrong_with(row: Row, previous: str) -> Iterator[str]:
    """Yield what is wrong with a row that should follow on the one with the hash `previous`."""
    if row.previous_hash != previous:
        yield "does not follow on the row before it; one was removed, added or moved"
    fields = row.model_dump(exclude={"sequence", "hash", "previous_hash"})
    try:
        hashed = row_hash(**fields, previous=row.previous_hash)
    except InvalidInput:  # what has no canonical form was never hashed
        hashed = ""
    if row.hash != hashed:
        yield "was changed after it was written"
