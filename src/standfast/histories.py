"""What Temporal's histories tell of a ticket: its own, run after run, and those of its planner workflows."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, count
from urllib.parse import quote

from temporalio.api.history.v1 import WorkflowExecutionStartedEventAttributes
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowHistory
from temporalio.converter import DataConverter

from standfast import listing
from standfast.codec.reading import failures, of_workflow, reveal
from standfast.drafts import Draft, drafts
from standfast.errors import PayloadLost, ServiceUnavailable, UnknownTicket
from standfast.settings import Settings
from standfast.spending import model_calls
from standfast.stats import planner_workflows
from standfast.store.databases import Databases
from standfast.telling import ticket_at_start
from standfast.timeline import Calls, TimelineEntry, timeline, undo_asked_for
from standfast.translation import of_ticket
from standfast.undo import undo_id


class Histories:
    """Reads histories. What ended long ago, Temporal has removed: runs that were continued, and planners."""

    def __init__(self, temporal: Client, settings: Settings, databases: Databases | None) -> None:
        """Without `databases` it is not known what model calls took."""
        self._temporal = temporal
        self._settings = settings
        self._databases = databases

    async def timeline(self, workflow_id: str) -> list[TimelineEntry]:
        """Return a ticket's timeline, its planner workflows' included, oldest first.

        Raises:
            UnknownTicket: no such ticket.
            ServiceUnavailable: Temporal can't be reached.
        """
        runs = await self.of_ticket(workflow_id)
        calls = await self._model_calls([name for run in runs for name in planner_workflows(run.events)])
        told = await asyncio.gather(*(self._entries(run, calls) for run in runs))
        entries = [entry for of_run in told for entry in of_run]
        if any(entry.step == "execution" and "ledger" in entry.detail for entry in entries):
            entries += await self._undo_entries(workflow_id)
        entries = [entry.model_copy(update={"link": self._event_link(entry)}) for entry in entries]
        return sorted(entries, key=lambda entry: entry.at)

    async def drafts(self, workflow_id: str) -> list[Draft]:
        """Return the plans that the agent made for a ticket, oldest first, as far as Temporal still knows them.

        Raises:
            UnknownTicket: no such ticket.
            ServiceUnavailable: Temporal can't be reached.
        """
        runs = await self._runs(workflow_id)
        return await drafts(runs, self._temporal.data_converter, self._temporal.namespace)

    async def progress(self, workflow_id: str) -> str:
        """Return what differs once a ticket's timeline has more to tell; costs much less than to read it.

        That is how long the histories of the ticket and of its present planner are, and what is tried how often.

        Raises:
            UnknownTicket: no such ticket.
            ServiceUnavailable: Temporal can't be reached.
        """
        known = [await self._described(workflow_id)]
        for child in known[0].raw_description.pending_children:
            with suppress(UnknownTicket):
                known.append(await self._described(child.workflow_id))
        attempts = [[activity.attempt for activity in one.raw_description.pending_activities] for one in known]
        return f"{[(one.run_id, one.history_length) for one in known]} {attempts}"

    def link(self, workflow_id: str) -> str | None:
        """Return the address of a workflow in Temporal's own UI, None if the settings don't name one."""
        ui = self._settings.temporal.ui
        if ui is None:
            return None
        return f"{ui.rstrip('/')}/namespaces/{quote(self._temporal.namespace)}/workflows/{quote(workflow_id, safe='')}"

    async def _runs(self, workflow_id: str) -> list[WorkflowHistory]:
        """Return the histories of a ticket's workflow, one a run, oldest first."""
        runs = [await self.one(workflow_id)]
        with suppress(UnknownTicket):  # what ended long ago, Temporal has removed
            while earlier := _started(runs[0]).continued_execution_run_id:
                runs.insert(0, await self.one(workflow_id, earlier))
        return runs

    async def of_ticket(self, workflow_id: str) -> list[WorkflowHistory]:
        """Return the histories of a ticket's workflow, one a run, oldest first, and of its planner workflows.

        Raises:
            UnknownTicket: no such ticket.
            ServiceUnavailable: Temporal can't be reached.
        """
        runs = await self._runs(workflow_id)
        planners: list[WorkflowHistory] = []
        for planner in (name for run in runs for name in planner_workflows(run.events)):
            with suppress(UnknownTicket):
                planners.append(await self.one(planner))
        return runs + planners

    async def one(self, workflow_id: str, run_id: str | None = None) -> WorkflowHistory:
        """Return the history of a run as Temporal has it, by default of the newest one.

        Raises:
            UnknownTicket: no such workflow.
            ServiceUnavailable: Temporal can't be reached.
        """
        with of_ticket(workflow_id):
            return await self._temporal.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()

    async def _entries(self, run: WorkflowHistory, calls: Calls | None) -> list[TimelineEntry]:
        described = await self._described(run.workflow_id, run.run_id)
        failing = described.raw_description.pending_activities
        known = chain(failures(run.events), (activity.last_failure for activity in failing))
        await reveal(known, self._converter(run.workflow_id))
        return await timeline(run, self._converter, failing, calls)

    async def _described(self, workflow_id: str, run_id: str | None = None) -> WorkflowExecutionDescription:
        with of_ticket(workflow_id):
            return await self._temporal.get_workflow_handle(workflow_id, run_id=run_id).describe()

    async def _model_calls(self, planners: Sequence[str]) -> Calls | None:
        """Return what the model calls of planner workflows took, None if this process can't ask the journal."""
        if self._databases is not None:
            with suppress(ServiceUnavailable):  # the rest is worth showing without
                return await model_calls(self._databases, planners)
        return None

    async def _undo_entries(self, workflow_id: str) -> list[TimelineEntry]:
        """Return an entry for each ticket that was to take this one back; a history doesn't know what followed it."""
        found: list[TimelineEntry] = []
        with suppress(UnknownTicket, PayloadLost):  # that there is no further one, or that it was purged
            for number in count(1):
                undo = undo_id(workflow_id, number)
                handle = self._temporal.get_workflow_handle(undo)
                with of_ticket(undo):
                    row = listing.row(await handle.describe())
                    first = await anext(handle.fetch_history_events(page_size=1))
                began = first.workflow_execution_started_event_attributes
                ticket = await ticket_at_start(began.input.payloads, self._converter(undo))
                if ticket is not None and ticket.undo_of == workflow_id:
                    found.append(undo_asked_for(row, ticket, began.original_execution_run_id))
        return found

    def _converter(self, workflow_id: str) -> DataConverter:
        """Return the converter for one workflow's payloads."""
        return of_workflow(self._temporal.data_converter, self._temporal.namespace, workflow_id)

    def _event_link(self, entry: TimelineEntry) -> str | None:
        workflow = self.link(entry.workflow_id)
        return workflow and f"{workflow}/{quote(entry.run_id)}/history/events/{entry.event_id}"


def _started(history: WorkflowHistory) -> WorkflowExecutionStartedEventAttributes:
    return history.events[0].workflow_execution_started_event_attributes
