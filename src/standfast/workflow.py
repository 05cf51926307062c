"""The ticket workflow: the six steps, and nothing else. It does no I/O and may wait for days across many deploys."""

import asyncio
import contextvars
from collections.abc import Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    # By their full names first: a module that only `from` finds would be loaded again for every run of the workflow.
    import standfast.steps
    import standfast.visibility  # noqa: F401
    from standfast import steps, visibility
    from standfast.carried import Carried, Start
    from standfast.context import Context
    from standfast.decision import UNPROVED, Decision, DecisionRecord, DecisionVerdict, Refusal, same_person
    from standfast.outcome import Execution, Outcome, State
    from standfast.path import Path, evaluate, still_approved
    from standfast.plan import Plan
    from standfast.report import SafetyReport, Undo, Verdict, effect_sentence
    from standfast.steps import Pool
    from standfast.ticket import NoTicket, Ticket
    from standfast.view import TicketView
    from standfast.visibility import TicketSummary

FAILED = "TicketFailed"
REFUSED = "DecisionRefused"
UNRECORDED = "DecisionUnrecorded"
UNSETTLED = "ExecutionUnsettled"

MAX_PLANS = 20  # all plans of one ticket: its history stays bounded
MAX_DRIFTS = 10  # rows that move on between rehearsal and execution this often are too busy for the plan
MAX_REFUSED_OF_ONE = 50  # refused decisions are in the history, too, and nobody's should leave no room for others'
MAX_REFUSED = 200

Result = TypeVar("Result")

CANCELLED_REASON = "Cancelled; nothing was changed."


@workflow.defn(name=steps.TICKET)
class TicketWorkflow:
    """One ticket, from its submission to its end."""

    @workflow.init
    def __init__(self, start: Start) -> None:
        if isinstance(start.root, NoTicket):
            return  # `run` says so
        carried = _carried(start.root)
        self._view = carried.view.model_copy(update={"report": carried.approved or carried.asked})
        self._decision: Decision | None = None
        self._asked_anew = isinstance(start.root, Carried)  # what it has carried is to be validated first
        self._recalled = carried.recalled
        self._executions = carried.executions
        self._drifts = carried.drifts
        self._one_at_a_time = asyncio.Lock()
        self._publishing: asyncio.TimerHandle | None = None
        self._summary: TicketSummary | None = None
        """What lists were told last."""

    @workflow.run
    async def run(self, start: Start) -> Outcome:
        """Return how the ticket ended; `failed` and `cancelled` close the workflow as failed and cancelled.

        It starts with a ticket; a run that continues another one starts with what that has carried so far.
        """
        if isinstance(start.root, NoTicket):  # of a client in another language, say: it is told, and waits for nothing
            raise ApplicationError(start.root.problem, type=FAILED, non_retryable=True)
        try:
            return await self._resolve(_carried(start.root))
        except asyncio.CancelledError:
            await self._end(State.CANCELLED, CANCELLED_REASON)
            raise
        except FailureError as error:
            if is_cancelled_exception(error) or _was_given_up(error):
                await self._end(State.CANCELLED, CANCELLED_REASON)
                raise asyncio.CancelledError from error
            outcome = await self._end(State.FAILED, _root_message(error))
            raise ApplicationError(outcome.reason, type=FAILED, non_retryable=True) from error

    async def _resolve(self, carried: Carried) -> Outcome:
        ticket = carried.view.ticket
        context = carried.view.context or await self._gather(ticket)
        plan = carried.view.plan or await self._plan(context)
        plans_made, approved, asked = carried.plans_made, carried.approved, carried.asked
        while True:
            await self._keep_history_short(plans_made, approved, asked)
            report = await self._validate(context, plan, approved or asked)
            match evaluate(report, plans_made=plans_made, asked=(approved or asked) is not None):
                case Path.BLOCK:
                    return await self._end(State.BLOCKED, _reasons_to_block(report)[0])
                case Path.REPLAN:
                    plan, plans_made = await self._plan(context, plan, _reasons_to_block(report)), plans_made + 1
                    approved = asked = None
                    continue
                case Path.ASK if not still_approved(approved, report):
                    decision = await self._wait_for_decision(report, asked)
                    approved = asked = None
                    if decision is None and self._asked_anew:
                        asked = report
                        continue
                    if decision is None:
                        return await self._end(State.EXPIRED, f"Nobody decided within {report.expires_in}.")
                    if decision.verdict is DecisionVerdict.REJECT:
                        return await self._end(State.REJECTED, f"Rejected by {decision.by}: {decision.comment}")
                    if decision.verdict is DecisionVerdict.REVISE:
                        plan, plans_made = await self._plan(context, plan, (decision.comment,)), 1
                        continue
                    approved = report
                    continue  # rows and constraints may be others by now: what was approved is validated once more
            if not plan.operations:
                return await self._end(State.DONE, f"Nothing to change. {plan.summary}".strip())
            execution = await self._execute(plan, report)
            if execution is not None:
                return await self._end(State.DONE, effect_sentence(execution.counts, ticket.target), execution)

    # --- the steps -----------------------------------------------------------------------------------------------

    async def _gather(self, ticket: Ticket) -> Context:
        self._enter(State.GATHERING)
        context = await steps.GATHER(ticket, summary="read the context", slack=steps.slack(ticket))
        self._show(context=context)
        return context

    async def _plan(self, context: Context, previous: Plan | None = None, feedback: tuple[str, ...] = ()) -> Plan:
        self._enter(State.PLANNING)
        number = self._view.plan_number + 1
        if context.ticket.undo_of is not None:
            return await self._recall(context.ticket.target, context.ticket.undo_of)
        plan: Plan = await workflow.execute_child_workflow(
            steps.PLANNER,
            steps.PlanRequest(context=context, previous=previous, feedback=feedback),
            id=steps.planner_id(self._view.workflow_id, number),
            task_queue=Pool.LLM,
            result_type=Plan,
            execution_timeout=steps.PLANNER_RUN,
            task_timeout=steps.PLANNER_TASK + steps.slack(context.ticket),
            retry_policy=RetryPolicy(maximum_attempts=1),
            cancellation_type=workflow.ChildWorkflowCancellationType.TRY_CANCEL,
            parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
            static_summary=f"plan {number}",
        )
        self._show(plan=plan, plan_number=number, report=None, approvals=())
        return plan

    async def _recall(self, target: str, undo_of: str) -> Plan:
        """The ledger knows the plan that takes another one back."""
        request = steps.RecallRequest(target=target, undo_of=undo_of)
        self._recalled = await steps.RECALL(request, summary=f"recall {undo_of}")
        plan = self._recalled.plan(undo_of)
        self._show(plan=plan, plan_number=1, report=None, approvals=())
        return plan

    async def _validate(self, context: Context, plan: Plan, seen: SafetyReport | None) -> SafetyReport:
        """Validate on the rows and constraints of now; approvals are kept if what people have seen still stands."""
        self._stop_if_cancelled()
        self._enter(State.VALIDATING)
        self._asked_anew = False
        report = await steps.VALIDATE(
            steps.ValidateRequest(context=context, plan=plan, recalled=self._recalled),
            summary=f"check and rehearse plan {self._view.plan_number}",
            slack=steps.slack(context.ticket),
        )
        self._show(report=report, approvals=self._view.approvals if still_approved(seen, report) else ())
        return report

    async def _wait_for_decision(self, report: SafetyReport, asked: SafetyReport | None) -> Decision | None:
        """Return None if nobody decided in time, or if somebody asked to validate the plan anew.

        The time to decide goes on if it is what people were `asked` about before, and as long as it was then.
        """
        self._decision = None
        if not (still_approved(asked, report) and _same_times(asked, report)):
            self._show(waiting_since=workflow.now(), reminders=())
        if len(self._view.approvals) >= report.approvals_required:  # fewer are enough by now; nobody has said so
            self._show(approvals=())
        self._enter(State.WAITING)
        reminding = asyncio.create_task(self._remind(report))
        try:
            await workflow.wait_condition(
                lambda: self._decision is not None or self._asked_anew,
                timeout=self._left(report.expires_in),
                timeout_summary=steps.APPROVAL_DEADLINE,
            )
            if self._decision is None:
                await self._answer_all()
        except TimeoutError:
            await self._answer_all()
        finally:
            reminding.cancel()
        return self._decision

    def _left(self, after: timedelta) -> timedelta:
        """Return how long it is until people have been asked for so long."""
        now = workflow.now()
        return max((self._view.waiting_since or now) + after - now, timedelta())

    async def _answer_all(self) -> None:
        """Let a decision count that arrived while the ticket still waited."""
        async with self._one_at_a_time:
            pass

    async def _remind(self, report: SafetyReport) -> None:
        """While nobody decides, remind people, and let others approve, too."""
        for reminder in report.reminders[len(self._view.reminders) :]:
            await workflow.sleep(self._left(reminder.after), summary="time to remind")
            self._show(reminders=(*self._view.reminders, reminder))
            request = steps.RemindRequest(
                workflow_id=self._view.workflow_id,
                plan_digest=report.plan_digest,
                reminder=reminder,
            )
            try:
                await steps.REMIND(request, summary=f"remind people after {reminder.after}")
            except ActivityError as error:  # it is no reason to end
                if is_cancelled_exception(error):
                    return

    async def _execute(self, plan: Plan, report: SafetyReport) -> Execution | None:
        """Return None if the effect would be another than the report's; nothing was changed then."""
        self._enter(State.EXECUTING)
        self._executions += 1
        request = steps.ExecuteRequest(
            workflow_id=self._view.workflow_id,
            target=self._view.ticket.target,
            plan=plan,
            plan_digest=report.plan_digest,
            fingerprint=report.fingerprint,
            volatile=report.volatile,
            not_after=report.rehearsed_at + steps.REPORT_GOOD_FOR,
            approved_by=self._view.approvals,
            undo=(report.undo or Undo()).model_copy(update={"operations": ()}),
            undo_proved=report.undo_proved,
            execution=self._executions,
        )
        try:
            return await steps.EXECUTE(request, summary=f"execute plan {report.plan_digest[:12]}")
        except (ActivityError, asyncio.CancelledError) as error:
            # A cancellation that comes in one workflow task with the execution's result hides it: the ledger has it.
            drifted = isinstance(error.__cause__, ApplicationError) and error.__cause__.type == steps.DRIFTED
            self._drifts += drifted
            if drifted and self._drifts <= MAX_DRIFTS:
                return None
            settled = await self._settle(request)
            if settled.execution is None:
                raise
            return settled.execution

    async def _settle(self, request: steps.ExecuteRequest) -> steps.Settled:
        """Ask the ledger what became of an execution that did not answer."""
        try:
            return await _whatever_happens(steps.SETTLE(request, summary="ask the ledger what happened"))
        except ActivityError as error:
            message = (
                f"whether plan {request.plan_digest[:12]} was executed is not known, look for {request.workflow_id} in "
                f"standfast.ledger of {request.target}; it can't be asked: {_root_message(error)}"
            )
            raise ApplicationError(message, type=UNSETTLED, non_retryable=True) from None

    async def _keep_history_short(
        self, plans_made: int, approved: SafetyReport | None, asked: SafetyReport | None
    ) -> None:
        """Continue as new where Temporal suggests it; decisions that are on their way get their answer first."""
        if not workflow.info().is_continue_as_new_suggested():
            return
        await workflow.wait_condition(workflow.all_handlers_finished)
        self._stop_if_cancelled()
        carried = Carried(
            view=self._view.model_copy(update={"report": None}),
            plans_made=plans_made,
            approved=approved,
            asked=asked,
            recalled=self._recalled,
            executions=self._executions,
            drifts=self._drifts,
        )
        workflow.continue_as_new(
            carried, task_timeout=workflow.info().task_timeout, initial_versioning_behavior=steps.NEXT_RUN_ON
        )

    # --- decisions -----------------------------------------------------------------------------------------------

    @workflow.update
    async def decide(self, decision: Decision) -> DecisionRecord:
        """Take a decision; a refused one raises, is on record, and changes nothing."""
        record = await self._consider(decision)
        if record.refused is not None:
            raise ApplicationError(record.message, record.refused.value, type=REFUSED, non_retryable=True)
        return record

    @decide.validator
    def _has_room(self, decision: Decision) -> None:
        refused = [record for record in self._view.decisions if record.refused is not None]
        own = [r for r in refused if r.refused not in UNPROVED and same_person(r.by, decision.by)]
        if len(own) >= MAX_REFUSED_OF_ONE:
            message = f"{len(own)} decisions of {decision.by} on this ticket were refused; no more of theirs are taken"
        elif len(refused) >= MAX_REFUSED:
            message = f"{len(refused)} decisions on this ticket were refused; no more are taken"
        else:
            return
        raise ApplicationError(message, Refusal.TOO_MANY_REFUSED.value, type=REFUSED, non_retryable=True)

    @workflow.signal(name="decide")
    async def decide_by_signal(self, decision: Decision) -> None:
        """The same as the update, for senders that can't wait for an answer."""
        try:
            await self._consider(decision)
        except ApplicationError as error:
            workflow.logger.warning("a decision that came by signal changed nothing: %s", error.type)

    @workflow.signal
    def rehearse(self) -> None:
        """Validate a waiting plan anew, as its rows are others by now; approvals stay if nothing else has changed."""
        self._asked_anew = self._view.state is State.WAITING

    async def _consider(self, decision: Decision) -> DecisionRecord:
        seen, arrived = self._view.report, workflow.now()
        async with self._one_at_a_time:
            await self._validation_over()
            known = self._known(decision)
            if known is not None:
                return known
            self._has_room(decision)
            request = steps.ReviewRequest(
                workflow_id=self._view.workflow_id,
                requester=self._view.ticket.requester,
                decision=decision,
                received_at=arrived,
                refused=self._refusal(decision, seen),
                state=self._state,
                decided_by=self._decision.by if self._decision else None,
                in_scope=self._view.may_approve(decision.by),
            )
            try:
                record = await steps.REVIEW(request, summary=f"review a decision: {decision.verdict}")
            except ActivityError as error:
                message = f"the decision can't be recorded, so it does not count: {_root_message(error)}; take it again"
                raise ApplicationError(message, type=UNRECORDED, non_retryable=True) from error
            if record.refused is None and not self._count(decision):
                late = "the ticket was cancelled before the decision was on record; it does not count"
                record = record.model_copy(update={"refused": Refusal.NOT_WAITING, "message": late})
            self._show(decisions=(*self._view.decisions, record))
            return record

    async def _validation_over(self) -> None:
        """Wait for a moment while the plan is validated.

        A query may be answered ahead of the workflow: who saw the ticket wait can decide before it has begun to.
        """
        if self._view.state is State.VALIDATING:
            with suppress(TimeoutError):
                await workflow.wait_condition(
                    lambda: self._view.state is not State.VALIDATING,
                    timeout=steps.DECISION_HELD,
                    timeout_summary="the validation takes longer",
                )

    @property
    def _state(self) -> State:
        """The state for whoever decides: a ticket that was asked to rehearse its plan anew waits no more."""
        state = self._view.state
        return State.VALIDATING if self._asked_anew and state is State.WAITING else state

    def _known(self, decision: Decision) -> DecisionRecord | None:
        """Return the record of the same decision, delivered once more."""
        if decision.proof is None:
            return None
        same = (r for r in self._view.decisions if r.id == decision.proof.id and r.refused is None)
        return next(same, None)

    def _refusal(self, decision: Decision, seen: SafetyReport | None) -> Refusal | None:
        report = self._view.report
        if self._state is not State.WAITING or self._decision is not None or report is None:
            return Refusal.NOT_WAITING
        if decision.plan_digest != report.plan_digest:
            return Refusal.STALE_PLAN
        if decision.fingerprint != report.fingerprint:
            return Refusal.STALE_ROWS
        if seen is not None and seen is not report and not still_approved(seen, report):
            return Refusal.JUDGED_ANEW  # while the decision waited for the end of the validation
        if decision.verdict is DecisionVerdict.APPROVE:
            if decision.judgement not in ("", report.judgement):
                return Refusal.JUDGED_ANEW
            approved_before = any(same_person(decision.by, by) for by in self._view.approvals)
            return Refusal.ALREADY_APPROVED if approved_before else None
        if not decision.comment.strip():
            return Refusal.COMMENT_REQUIRED
        return self._refusal_to_revise() if decision.verdict is DecisionVerdict.REVISE else None

    def _refusal_to_revise(self) -> Refusal | None:
        if self._recalled is not None:
            return Refusal.NOT_REVISABLE
        return Refusal.TOO_MANY_PLANS if self._view.plan_number >= MAX_PLANS else None

    def _count(self, decision: Decision) -> bool:
        """Let the decision take effect; return False if the ticket doesn't wait any more."""
        report = self._view.report
        if self._view.state is not State.WAITING or report is None:
            return False
        if decision.verdict is DecisionVerdict.APPROVE:
            self._show(approvals=(*self._view.approvals, decision.by))
            if len(self._view.approvals) < report.approvals_required:
                self._publish()
                return True
        self._decision = decision
        return True

    # --- what others see -----------------------------------------------------------------------------------------

    @workflow.query
    def view(self) -> TicketView:
        """Return everything known about the ticket at this moment."""
        return self._view

    def _show(self, **changes: Any) -> None:
        self._view = self._view.model_copy(update=changes)
        workflow.set_current_details(_details(self._view))

    def _enter(self, state: State) -> None:
        left = self._view.state
        self._show(state=state)
        if State.WAITING in (left, state):
            self._publish()
        elif self._publishing is None:
            # In a context of its own, as the SDK labels every later timer like the last one that had a label.
            later, seconds = asyncio.get_running_loop().call_later, steps.STATE_IN_LISTS.total_seconds()
            self._publishing = contextvars.Context().run(later, seconds, self._publish_what_lasts)

    def _publish_what_lasts(self) -> None:
        self._publishing = None
        self._publish()

    def _publish(self) -> None:
        """Let lists show the ticket as it is now."""
        if self._publishing is not None:
            self._publishing.cancel()
            self._publishing = None
        shown = workflow.info().typed_search_attributes
        # Together, since each upsert costs the server a write to its visibility store.
        if updates := visibility.updates(self._view, shown):
            workflow.upsert_search_attributes(updates)
        if self._view.state is State.WAITING:
            summary = TicketSummary.waiting(self._view)
            if summary != self._summary:
                self._summary = summary
                workflow.upsert_memo({visibility.SUMMARY: summary})

    async def _end(self, state: State, reason: str, execution: Execution | None = None) -> Outcome:
        outcome = Outcome(state=state, reason=reason, execution=execution)
        self._show(outcome=outcome)
        self._enter(state)
        await self._put_on_record(outcome)
        self._publish()  # together with the workflow's end, as each change for itself costs the server a write
        await _whatever_happens(workflow.wait_condition(workflow.all_handlers_finished))
        return outcome

    async def _put_on_record(self, outcome: Outcome) -> None:
        request = steps.ConcludeRequest(
            state=outcome.state, execution=outcome.execution, undo_of=self._view.ticket.undo_of
        )
        try:
            await _whatever_happens(steps.CONCLUDE(request, summary=f"put the end on record: {outcome.state}"))
        except ActivityError as error:  # the end is what it is, and `standfast audit verify` finds what is missing
            workflow.logger.error("the end is not on record: %s", _root_message(error))

    def _stop_if_cancelled(self) -> None:
        """End a ticket whose cancellation arrived while an execution was waited for, which swallows it."""
        if workflow.cancellation_reason() is not None:
            raise asyncio.CancelledError


def _carried(start: Ticket | Carried) -> Carried:
    if isinstance(start, Carried):
        return start
    return Carried(view=TicketView(workflow_id=workflow.info().workflow_id, ticket=start, state=State.GATHERING))


def broken_off(cause: BaseException | None) -> Outcome:
    """Return the outcome of a ticket whose workflow ended without one: it failed, or was ended from outside."""
    if isinstance(cause, CancelledError):
        return Outcome(state=State.CANCELLED, reason=CANCELLED_REASON)
    return Outcome(state=State.FAILED, reason=cause.message if isinstance(cause, FailureError) else str(cause))


def _was_given_up(error: FailureError) -> bool:
    """Tell whether work failed for which a cancelled ticket had no use any more: the server doesn't try it again."""
    return workflow.cancellation_reason() is not None and isinstance(error, ActivityError)


async def _whatever_happens(work: Coroutine[Any, Any, Result]) -> Result:
    """Wait for `work` to its end; a cancellation comes too late for it."""
    task = asyncio.create_task(work)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await workflow.wait([task])
    return task.result()


def _root_message(error: BaseException) -> str:
    while isinstance(error, FailureError) and error.cause is not None:
        error = error.cause
    message = error.message if isinstance(error, FailureError) else str(error)
    return " ".join(message.split()) or type(error).__name__


def _reasons_to_block(report: SafetyReport) -> tuple[str, ...]:
    """Return what speaks against a blocked plan, the agent's own refusal to plan first."""
    blocking = (f for f in report.all_findings if f.verdict is Verdict.BLOCK)
    return tuple(f"{finding.rule}: {finding.message}" for finding in blocking) or ("blocked",)


def _same_times(asked: SafetyReport | None, report: SafetyReport) -> bool:
    return asked is not None and (asked.reminders, asked.expires_in) == (report.reminders, report.expires_in)


def _details(view: TicketView) -> str:
    """Return Markdown for Temporal's UI, made of our own words only: ticket and model text could forge links."""
    lines = [f"**{view.state}**"]
    if view.report is not None:
        lines += [view.report.effect(view.ticket.target)]
        lines += [f"- `{finding.rule}` {finding.verdict}" for finding in view.report.all_findings]
    return "\n".join(lines)
