"""The activity `conclude`: how a ticket ended goes on the audit chain."""

from temporalio import activity

from standfast import audit
from standfast.audit import Kind
from standfast.safety.conflicts import forget_rows
from standfast.steps import CONCLUDE, ConcludeRequest
from standfast.store.databases import Databases


class Recorder:
    """Writes as the control role."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    @activity.defn(name=CONCLUDE.name)
    async def conclude(self, request: ConcludeRequest) -> str:
        """Append the end, with what was executed, and return the hash of its row.

        Raises:
            ServiceUnavailable: the control database can't be reached.
        """
        kind, content = Kind.END, {"state": request.state.value}
        if request.execution is not None:
            kind = Kind.EXECUTION if request.undo_of is None else Kind.UNDO
            content |= request.execution.model_dump(mode="json")
        if request.undo_of is not None:
            content["undo_of"] = request.undo_of
        async with self._databases.control(autocommit=True) as connection:
            await forget_rows(connection, activity.info().workflow_id or "")
            return await audit.append_step(connection, kind, content=content)
