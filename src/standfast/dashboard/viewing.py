"""Who was shown which plan, on the audit chain: an approval is worth what its approver could see."""

from datetime import UTC, datetime

from standfast import audit, shown
from standfast.codec.sealing import Seal
from standfast.dashboard.sessions import Session
from standfast.domain import digest
from standfast.outcome import State
from standfast.store.databases import Databases
from standfast.view import TicketView


class Viewing:
    """Puts views on record. What can't be put there is not shown."""

    def __init__(self, databases: Databases, seal: Seal, *, by: str) -> None:
        """Take `by` what the views come: `page` or `api`."""
        self._databases = databases
        self._seal = seal
        self._by = by

    async def note(self, view: TicketView, session: Session) -> None:
        """Put on record that a person is shown a plan that waits, and what; once an hour: pages load themselves anew.

        Raises:
            ServiceUnavailable: the control database can't be reached.
        """
        if view.state is not State.WAITING or view.report is None:
            return
        now = datetime.now(UTC)
        seen = {"plan_digest": view.report.plan_digest, "fingerprint": view.report.fingerprint, "by": self._by}
        async with self._databases.control(autocommit=True) as connection:
            content = seen | {"shown": await shown.keep(connection, self._seal, view, now)}
            once = {"workflow_id": view.workflow_id, "user": session.user, "hour": f"{now:%Y-%m-%dT%H}", **content}
            await audit.append(
                connection,
                key=f"view/{digest(once)}",
                at=now,
                kind=audit.Kind.VIEW,
                workflow_id=view.workflow_id,
                actor=session.user,
                content=content,
            )
