"""The batch workflow: a window that slides over thousands of tickets. It may run for weeks; its history stays short.

Each ticket is a child workflow. Of most ends the children tell by themselves. The rest is looked up from time to time:
who waits for a person and so needs no place in the window, and what became of children of an earlier run, of tickets
that were there before the batch, and of those that somebody terminated.
"""

import asyncio
from collections import deque
from contextlib import suppress
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ChildWorkflowError, WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    # By their full names first, see standfast.workflow.
    import standfast.batch
    import standfast.batching.pace
    import standfast.steps
    import standfast.submission
    import standfast.workflow  # noqa: F401
    from standfast import steps
    from standfast.batch import (
        LOOKED_AT,
        Batch,
        BatchState,
        CancelRequest,
        CarriedBatch,
        Ended,
        Ending,
        NumberedTicket,
        PageRequest,
        Progress,
        RecordRequest,
        TicketState,
        ended,
    )
    from standfast.batching.pace import Turns
    from standfast.carried import Start
    from standfast.submission import start_options
    from standfast.workflow import TicketWorkflow, broken_off

_ENDINGS = 200  # are recorded together at most: a payload of moderate size
_LATELY = timedelta(minutes=1)  # what speed is measured over


@workflow.defn(name=steps.BATCH)
class BatchWorkflow:
    """One batch, from its first ticket to its last one's end."""

    @workflow.init
    def __init__(self, batch: Batch) -> None:
        carried = batch.carried or _nothing(batch, workflow.now())
        self._batch = batch
        self._started_at = carried.started_at
        self._handed_out = carried.handed_out
        self._page = deque[NumberedTicket]()
        self._window = dict.fromkeys(carried.window, carried.started_at)
        """Positions of tickets that are under way, and when they were last heard of."""
        self._of_others = frozenset(carried.window)
        self._starting = set[int]()
        self._turns = Turns(batch.pace.per_minute, carried.next_turn)
        self._ended = list(carried.ended)
        self._met = list(carried.met)
        self._looked_up_to = carried.looked_up_to
        self._states = carried.states
        self._speed = carried.speed
        self._paused = carried.paused
        self._cancelled = carried.cancelled
        never_left_out = carried.cancelled and TicketState.READY in carried.states
        self._to_cancel: bool | None = False if never_left_out else None
        """A cancellation that came just now, and whether it is the tickets', too."""

    @workflow.run
    async def run(self, batch: Batch) -> Progress:
        """Return what became of all tickets."""
        work = asyncio.create_task(self._work())
        while not work.done():
            try:
                await workflow.wait([work])
            except asyncio.CancelledError:  # by Temporal's own means
                self._cancel(tickets=False)
        work.result()
        await workflow.wait_condition(workflow.all_handlers_finished)
        if not self._over:
            workflow.continue_as_new(
                batch.model_copy(update={"carried": self._carried()}), initial_versioning_behavior=steps.NEXT_RUN_ON
            )
        return self.progress()

    async def _work(self) -> None:
        handing_out = asyncio.create_task(self._hand_out())
        if self._batch.carried is None:
            # The first page takes back what an earlier workflow handed out and perhaps never started. Looked at before,
            # such tickets would count as lost.
            await workflow.wait_condition(lambda: bool(self._page or self._handed_out) or handing_out.done())
        pause = steps.BATCH_FIRST_LOOK
        while True:
            before, all_started = self._states, handing_out.done()
            await self._record()
            happened = self._states != before
            if all_started:
                handing_out.result()
                happened |= await self._cancel_what_is_left()
                if self._to_cancel is None and (self._over or self._is_long):
                    return
            pause = steps.BATCH_FIRST_LOOK if happened else min(2 * pause, self._longest_pause)
            await self._until_due(handing_out, pause)

    # --- handing out ---------------------------------------------------------------------------------------------

    async def _hand_out(self) -> None:
        """Start tickets, until there are no more, the batch is cancelled, or this run's history is long."""
        while self._may_go_on:
            if not self._page:
                await self._turn_the_page()
            elif self._paused or len(self._window) >= self._batch.pace.at_once:
                await workflow.wait_condition(self._has_room)
            elif wait := self._turns.wait(workflow.now()):
                with suppress(TimeoutError):
                    await workflow.wait_condition(lambda: not self._may_go_on, timeout=wait, timeout_summary="rate")
            else:
                self._turns.take(workflow.now())
                self._start(self._page.popleft())
        await workflow.wait_condition(lambda: not self._starting)

    @property
    def _may_go_on(self) -> bool:
        return self._handed_out < self._batch.tickets and not self._cancelled and not self._is_long

    @property
    def _is_long(self) -> bool:
        """Tell whether the history has reached the length at which it begins anew."""
        info = workflow.info()
        long = info.get_current_history_length() >= self._batch.events_per_run
        return long or info.is_continue_as_new_suggested()

    def _has_room(self) -> bool:
        room = len(self._window) < self._batch.pace.at_once and not self._paused
        return room or not self._may_go_on

    async def _turn_the_page(self) -> None:
        request = PageRequest(batch_id=self._batch.id, first=self._handed_out)
        page = await steps.BATCH_PAGE(request, summary=f"tickets from {self._handed_out}")
        self._page.extend(page.tickets)
        if not page.tickets:
            self._handed_out = self._batch.tickets

    def _start(self, numbered: NumberedTicket) -> None:
        self._handed_out = numbered.position + 1
        self._window[numbered.position] = workflow.now()
        self._starting.add(numbered.position)
        asyncio.create_task(self._see_through(numbered))  # noqa: RUF006 - the workflow's loop keeps its tasks

    async def _see_through(self, numbered: NumberedTicket) -> None:
        """Start a ticket and wait for its end; a later run of this workflow doesn't hear of it."""
        position, ticket = numbered.position, numbered.ticket
        try:
            child = await workflow.start_child_workflow(
                TicketWorkflow.run,
                Start(ticket),
                **start_options(ticket, numbered.requester_mark),
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                priority=steps.BATCH_PRIORITY,
                cancellation_type=workflow.ChildWorkflowCancellationType.ABANDON,
            )
        except WorkflowAlreadyStartedError:
            self._met.append(position)
            self._window.pop(position, None)
            return
        finally:
            self._starting.discard(position)
        try:
            outcome = await child
        except ChildWorkflowError as error:
            outcome = broken_off(error.cause)
        self._ended.append(Ended(position=position, ending=Ending.of(outcome, workflow.now())))
        self._window.pop(position, None)

    # --- the record ----------------------------------------------------------------------------------------------

    async def _until_due(self, handing_out: asyncio.Task[None], pause: timedelta) -> None:
        """Wait for something to record, or until it's time to look or to leave the rest to the next run."""

        def leaving() -> bool:
            return handing_out.done() and self._is_long

        def complete() -> bool:
            return len(self._ended) >= _ENDINGS or (handing_out.done() and not self._window)

        with suppress(TimeoutError):
            await workflow.wait_condition(lambda: self._news or leaving(), timeout=pause, timeout_summary="look")
            if self._news:
                seconds = steps.BATCH_GATHER
                await workflow.wait_condition(
                    lambda: complete() or leaving(), timeout=seconds, timeout_summary="gather"
                )

    @property
    def _news(self) -> bool:
        return bool(self._ended or self._met) or self._to_cancel is not None

    async def _record(self) -> None:
        ended_now, self._ended = self._ended[:_ENDINGS], self._ended[_ENDINGS:]
        met, self._met = self._met, []
        silent = tuple(filter(self._is_silent, self._window))
        request = RecordRequest(
            batch_id=self._batch.id,
            handed_out=self._handed_out,
            ended=tuple(ended_now),
            met=tuple(met),
            window=tuple(self._window),
            silent=silent,
            looked_up_to=self._looked_up_to,
        )
        recorded = await steps.BATCH_RECORD(request, summary=f"record {len(ended_now)} ends, look, count")
        now = workflow.now()
        self._window.update((position, now) for position in silent if position in self._window)
        for position in recorded.freed:
            self._window.pop(position, None)
        self._states, self._looked_up_to = recorded.states, recorded.looked_up_to
        workflow.set_current_details("\n".join(f"- {number} {state}" for state, number in self._states.items()))
        lately = tuple((at, number) for at, number in self._speed if now - at <= _LATELY)
        self._speed = (*(lately or self._speed[-1:]), (now, ended(self._states)))

    def _is_silent(self, position: int) -> bool:
        """Tell whether it's worth a look what became of a ticket of the window."""
        enough = steps.BATCH_SILENCE_OF_OTHERS if position in self._of_others else steps.BATCH_SILENCE
        return position not in self._starting and workflow.now() - self._window[position] > enough

    @property
    def _over(self) -> bool:
        return ended(self._states) == self._batch.tickets

    @property
    def _longest_pause(self) -> timedelta:
        """All tickets that have not ended are looked at in this time, some hundred at once."""
        under_way = self._states.get(TicketState.RUNNING, 0) + self._states.get(TicketState.WAITING, 0)
        return max(steps.BATCH_FIRST_LOOK, steps.BATCH_LAST_LOOK / (1 + under_way // LOOKED_AT))

    async def _cancel_what_is_left(self) -> bool:
        """Return whether something was to be cancelled."""
        if self._to_cancel is None:
            return False
        tickets, self._to_cancel = self._to_cancel, None
        request = CancelRequest(batch_id=self._batch.id, handed_out=self._handed_out, tickets=tickets, after=-1)
        cancelled = await steps.BATCH_CANCEL(request, summary="cancel what is left")
        while (after := cancelled.asked_up_to) >= 0:
            await self._record()
            request = request.model_copy(update={"after": after})
            cancelled = await steps.BATCH_CANCEL(request, summary=f"cancel what is left after {after}")
        return True

    def _carried(self) -> CarriedBatch:
        return CarriedBatch(
            started_at=self._started_at,
            handed_out=self._handed_out,
            window=tuple(self._window),
            ended=tuple(self._ended),
            met=tuple(self._met),
            next_turn=self._turns.next_at,
            looked_up_to=self._looked_up_to,
            states=self._states,
            speed=self._speed,
            paused=self._paused,
            cancelled=self._cancelled,
        )

    # --- what people do ------------------------------------------------------------------------------------------

    @workflow.update
    def pause(self) -> Progress:
        """Start no further tickets; those under way go on."""
        self._paused = True
        return self.progress()

    @workflow.update
    def resume(self) -> Progress:
        """Go on after a pause."""
        self._paused = False
        return self.progress()

    @workflow.update
    def cancel(self, tickets: bool) -> Progress:
        """Start no further tickets, for good; with `tickets`, cancel those that the batch has started, too."""
        self._cancel(tickets=tickets)
        return self.progress()

    def _cancel(self, *, tickets: bool) -> None:
        self._cancelled = True
        self._to_cancel = tickets or bool(self._to_cancel)

    @workflow.query
    def progress(self) -> Progress:
        """Return how far the batch is."""
        speed = _per_minute(self._speed)
        to_do = sum(self._states.get(state, 0) for state in (TicketState.READY, TicketState.RUNNING))
        return Progress(
            batch_id=self._batch.id,
            state=self._state,
            tickets=self._batch.tickets,
            states=self._states,
            pace=self._batch.pace,
            started_at=self._started_at,
            ended_per_minute=speed,
            seconds_left=60 * to_do / speed if speed and not self._paused else None,
        )

    @property
    def _state(self) -> BatchState:
        if self._cancelled:
            return BatchState.CANCELLED if self._over else BatchState.CANCELLING
        if self._over:
            return BatchState.DONE
        return BatchState.PAUSED if self._paused else BatchState.RUNNING


def _nothing(batch: Batch, now: datetime) -> CarriedBatch:
    """Return what the first run of a batch begins with."""
    return CarriedBatch(
        started_at=now,
        handed_out=0,
        window=(),
        ended=(),
        met=(),
        next_turn=None,
        looked_up_to=-1,
        states={TicketState.READY: batch.tickets},
        speed=((now, 0),),
        paused=False,
        cancelled=False,
    )


def _per_minute(speed: tuple[tuple[datetime, int], ...]) -> float | None:
    (first, before), (last, after) = speed[0], speed[-1]
    if last <= first or after <= before:
        return None
    return 60 * (after - before) / (last - first).total_seconds()
