"""What the ticket workflow asks of its workers: one step a call, each with its pool, its time-outs and its retries.

All time-outs and retry policies of Standfast are in this module, with their reasons.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Generic, TypeVar

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy

from standfast.batch import Cancelled, CancelRequest, Page, PageRequest, Recorded, RecordRequest
from standfast.context import Context
from standfast.decision import Decision, DecisionRecord, Refusal
from standfast.domain import Record, Submission
from standfast.errors import PayloadTooLarge
from standfast.outcome import Execution, State
from standfast.plan import Operation, Plan
from standfast.report import Reminder, SafetyReport, Undo
from standfast.ticket import Ticket


class Pool(StrEnum):
    """A group of worker processes with a task queue and credentials of its own; the value is the queue's name.

    Each may also read and add large payloads.
    """

    CORE = "core"
    """The ticket workflow, context retrieval, validation, decisions. Credentials: reader, rehearser, control."""
    LLM = "llm"
    """The planner workflow, model requests, read-only tools. Credentials: provider keys, reader."""
    DATABASE = "database"
    """Execution. Credentials: writer, and nothing else."""


class PlanRequest(Record):
    """What the planner gets."""

    context: Context
    previous: Plan | None = None
    """The plan that was sent back..."""
    feedback: tuple[str, ...] = ()
    """...and why: findings or a person's comment."""


class RecallRequest(Record):
    """Which plan is to be taken back."""

    target: str
    undo_of: str
    """The workflow id of its ticket."""


class Recalled(Record):
    """What the ledger says about taking a plan back."""

    operations: tuple[Operation, ...] | None
    """None if it can't be taken back."""
    left: tuple[str, ...]
    """Tables that are left to their triggers."""
    remarks: tuple[str, ...]
    """What stays different all the same, or why the plan can't be taken back."""
    rows_digest: str
    """SHA-256 over the rows as the plan left them."""

    def plan(self, undo_of: str) -> Plan:
        """Return the plan that takes the ticket `undo_of` back.

        Raises:
            ValueError: it is larger than a plan may be.
        """
        summary = f"Takes {undo_of} back. {'; '.join(self.remarks)}"
        return Plan(summary=summary.strip()[:_SUMMARY], operations=self.operations or ())


class Filling(Record):
    """What became of an agent's choice of a playbook: a plan, or why there is none."""

    plan: Plan | None = None
    refused: str = ""
    """For the agent, which chooses again."""


class ValidateRequest(Record):
    """What validation gets."""

    context: Context
    plan: Plan
    recalled: Recalled | None = None
    """If the plan takes another one back: what the ledger said about it."""


class RehearseRequest(Record):
    """A plan that waits, to be rehearsed once more."""

    ticket: Ticket
    """Without what only grounding asks for."""
    plan: Plan


class Rehearsed(Record):
    """What a plan would do now, put short."""

    plan_digest: str
    fingerprint: str
    """Differs from the report's if the effect would be another."""
    at: datetime
    """By the target's clock."""


class ExecuteRequest(Record):
    """What execution gets."""

    workflow_id: str
    target: str
    plan: Plan
    plan_digest: str
    fingerprint: str
    """Of the report that was approved or automatic; execution refuses if its effect differs from it."""
    volatile: tuple[str, ...] = ()
    """The report's volatile columns."""
    not_after: datetime
    """A report that is older than this says nothing any more; what was executed before is still found."""
    approved_by: tuple[str, ...] = ()
    undo: Undo = Undo()
    """The report's, without its operations: those depend on the rows that are really changed."""
    undo_proved: bool = False
    execution: int = 1
    """Which of the ticket's executions this is; a later one leaves no chance to what is left of an earlier one."""


class Settled(Record):
    """What the ledger knows about a plan whose execution did not answer."""

    execution: Execution | None = None
    """None if it was not executed."""


class ReviewRequest(Record):
    """A decision that arrived at the workflow."""

    workflow_id: str
    requester: str
    decision: Decision
    received_at: datetime
    refused: Refusal | None
    """What the workflow itself has against it; it goes on record all the same."""
    state: State
    decided_by: str | None
    """Who was first, if the plan is decided already."""
    in_scope: bool
    """Whether the constraints let this person approve."""


class RemindRequest(Record):
    """A plan that waits for a person in vain so far."""

    workflow_id: str
    plan_digest: str
    reminder: Reminder


class ConcludeRequest(Record):
    """How a ticket ended, for the audit chain: no reason, since that has words of people and of servers in it."""

    state: State
    execution: Execution | None
    undo_of: str | None


TICKET, PLANNER, REHEARSAL, BATCH = "Ticket", "Planner", "Rehearsal", "Batch"
"""Types of workflows. A planner is the ticket's child that makes a plan; a rehearsal stands beside the ticket."""
APPROVAL_DEADLINE = "approval deadline"
"""Summary of the timer after which a ticket expires."""
DRIFTED = "Drifted"
"""Error type of an execution that found other rows than the report; nothing was changed."""
OVERTAKEN = "Overtaken"
"""Error type of an attempt to execute that woke up when a newer one was at work; it changed nothing."""

# A report says little about later: constraints change, freezes begin. Longer than any validation takes. Both times
# are the target's.
REPORT_GOOD_FOR = timedelta(minutes=5)

_PLANNER_ID = re.compile(r"/plan/\d+$")
_BESIDE = re.compile(r"/(plan/\d+|rehearsal)$")
_SUMMARY = 2000  # characters of a plan's summary that is made of remarks

Request = TypeVar("Request")
Result = TypeVar("Result")

# What a step returns is stored outside of our code, which therefore can't mark its errors.
_NEVER_AGAIN = (PayloadTooLarge.__name__,)
# A lost worker's work is taken up at once, however often others had failed at it before: hence intervals that hardly
# grow. What fails in words waits longer and longer by `pause`; a service that comes back is noticed within ten seconds.
_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=100),
    backoff_coefficient=1.1,
    maximum_interval=timedelta(seconds=10),
    non_retryable_error_types=_NEVER_AGAIN,
)
# A dead worker is noticed after this long; heartbeats are sent every fifth of it.
HEARTBEAT = timedelta(seconds=2)
# Slim workflows replay in milliseconds: a task whose worker died is handed out again after this.
WORKFLOW_TASK = timedelta(seconds=2)
# On a busy machine, too. While arguments are loaded and results are stored, no heartbeats are sent.
_SLACK_PER_MIB = timedelta(seconds=0.5)
# A worker that went away without a word keeps its sticky queue for this long.
STICKY_QUEUE = timedelta(seconds=1)
# Where workers have versions, a run stays on the one it began on; what it has carried is understood by all of them.
NEXT_RUN_ON = workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE
# So often at most lists are told about states under way: these are over within milliseconds as a rule, and each change
# costs the server as much as a step does.
STATE_IN_LISTS = timedelta(seconds=5)
# How long a decision is held that comes while a plan is validated; its sender waits for the answer.
DECISION_HELD = timedelta(seconds=15)
# A planner run may wait in its queue and for a rate-limited provider, but a ticket should not plan for ever.
PLANNER_RUN = timedelta(days=1)
# pydantic-ai's part of the planner workflow replays slower than ours: a second for the longest run that it allows. Not
# more, since after a worker froze the server lets a task run out twice now and then, and both must stay below 5 s.
PLANNER_TASK = timedelta(seconds=2.25)
# The slowest models think for minutes. The provider's own time-out ends a request first, so that the error names it.
MODEL_REQUEST = timedelta(minutes=5)
# An answer that was paid for is worth waiting for its journal, but not for ever: it is reported then all the same.
JOURNAL = timedelta(seconds=30)
MODEL_ANSWER = MODEL_REQUEST - JOURNAL - timedelta(seconds=10)
# All attempts of one model request or tool call together: well within a planner run, so that the ticket fails with the
# provider's or the database's own words instead of a bare time-out.
MODEL_GIVE_UP = timedelta(hours=6)
TOOL_CALL = timedelta(seconds=30)
TOOL_GIVE_UP = timedelta(hours=6)
# A provider that says Retry-After is obeyed up to the longest interval, hence a minute. What can't heal (a wrong key,
# an unknown model, an empty account, an answer that can't be read) is never sent again; the library marks it.
MODEL_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    backoff_coefficient=1.1,
    maximum_interval=timedelta(minutes=1),
    non_retryable_error_types=_NEVER_AGAIN,
)
TOOL_RETRY = _RETRY

# The batch's workflow replays thousands of events. Its tickets don't wait for it: only the next ones do.
BATCH_TASK = timedelta(seconds=10)
# Whatever a ticket of a batch needs comes after what others need: theirs are submitted one by one, by people who wait.
BATCH_PRIORITY = Priority(priority_key=4)
# What ended is recorded together with what ends soon after.
BATCH_GATHER = timedelta(seconds=2)
# How soon a batch looks at tickets that say nothing; while nothing happens, twice as long each time, up to...
BATCH_FIRST_LOOK = timedelta(seconds=1)
BATCH_LAST_LOOK = timedelta(minutes=1)
# A ticket that needs no person and no second thought has ended after this: no need to ask. The same time passes between
# two looks...
BATCH_SILENCE = timedelta(seconds=10)
# ...but not at tickets of an earlier run: the present one hears nothing of their ends, and waits for their places.
BATCH_SILENCE_OF_OTHERS = timedelta(seconds=2)


def pause(policy: RetryPolicy, attempt: int) -> timedelta:
    """Return how long to wait after a failed attempt: twice as long after each, up to the policy's longest interval."""
    longest = policy.maximum_interval or 100 * policy.initial_interval
    doublings = min(attempt - 1, 20)  # more would not fit a timedelta
    return min(longest, policy.initial_interval * 2.0**doublings)


def planner_id(ticket: str, plan_number: int) -> str:
    """Return the workflow id of the planner that makes one plan of the ticket with this one."""
    return f"{ticket}/plan/{plan_number}"


def rehearsal_id(ticket: str) -> str:
    """Return the workflow id of the rehearsals beside the ticket with this one; there is one at a time."""
    return f"{ticket}/rehearsal"


def is_planner(workflow_id: str) -> bool:
    """Tell whether a workflow is a planner's."""
    return _PLANNER_ID.search(workflow_id) is not None


def ticket_of(workflow_id: str) -> str:
    """Return the ticket that a workflow belongs to: its own, a planner's, or a rehearsal's beside it."""
    return _BESIDE.sub("", workflow_id)


def slack(ticket: Ticket) -> timedelta:
    """Return how much longer than others a ticket's tasks may take: a large one is loaded and stored with each."""
    return ticket.size // 2**20 * _SLACK_PER_MIB


@dataclass(frozen=True, kw_only=True)
class Step(Generic[Request, Result]):
    """One activity as the workflow sees it."""

    name: str
    pool: Pool
    result: type[Result]
    start_to_close: timedelta
    """One attempt may take this long."""
    give_up_after: timedelta | None
    """All attempts together; None where their number is limited instead, or nothing is."""
    retry: RetryPolicy = field(default_factory=lambda: _RETRY)
    cancellation: workflow.ActivityCancellationType = workflow.ActivityCancellationType.TRY_CANCEL

    async def __call__(self, request: Request, *, summary: str, slack: timedelta = timedelta()) -> Result:
        """Run the step as an activity; `summary` is what Temporal's UI shows, `slack` see there."""
        result: Result = await workflow.execute_activity(
            self.name,
            request,
            task_queue=self.pool,
            result_type=self.result,
            start_to_close_timeout=self.start_to_close,
            schedule_to_close_timeout=self.give_up_after,
            heartbeat_timeout=HEARTBEAT + slack,
            retry_policy=self.retry,
            cancellation_type=self.cancellation,
            summary=summary,
        )
        return result


# Time in the queue counts, too: a database, or a pool, that is away for a day needs people, not retries.
_OUTAGE = timedelta(days=1)

GATHER: Step[Ticket, Context] = Step(
    name="gather",
    pool=Pool.CORE,
    result=Context,
    start_to_close=timedelta(seconds=30),  # bounded reads with a statement time-out
    give_up_after=_OUTAGE,
)
RECALL: Step[RecallRequest, Recalled] = Step(
    name="recall",
    pool=Pool.DATABASE,
    result=Recalled,
    start_to_close=timedelta(seconds=30),
    give_up_after=_OUTAGE,
)
# A function of one's own may hold a whole agent, and each further attempt may pay for it again. Before each the journal
# has to say that there is no answer yet: while it is away an attempt waits, as long as a model's request would in all.
OWN_FUNCTION = timedelta(minutes=15)
PLAN: Step[Context, Plan] = Step(
    name="plan",
    pool=Pool.LLM,
    result=Plan,
    start_to_close=MODEL_GIVE_UP + OWN_FUNCTION + 2 * JOURNAL,
    give_up_after=None,  # their number is limited instead
    retry=RetryPolicy(
        initial_interval=timedelta(seconds=1),
        maximum_interval=timedelta(seconds=30),
        maximum_attempts=3,
        non_retryable_error_types=_NEVER_AGAIN,
    ),
)
FILL_PLAYBOOK: Step[Submission, Filling] = Step(
    name="fill_playbook",
    pool=Pool.LLM,
    result=Filling,
    start_to_close=timedelta(seconds=10),  # no I/O: the playbooks were read when the worker started
    give_up_after=timedelta(minutes=10),
)
# A plan that takes longer to rehearse would hold locks on its rows for most of the time. Both runs of it, so that each
# stays below the 20 s for which the server lets a session idle in its transaction, as the observer's does meanwhile.
LONGEST_REHEARSAL = timedelta(seconds=40)
VALIDATE: Step[ValidateRequest, SafetyReport] = Step(
    name="validate",
    pool=Pool.CORE,
    result=SafetyReport,
    start_to_close=LONGEST_REHEARSAL + timedelta(seconds=20),  # connections, rules and records are quick, or time out
    give_up_after=_OUTAGE,
)
REHEARSE: Step[RehearseRequest, Rehearsed] = Step(
    name="rehearse",
    pool=Pool.CORE,
    result=Rehearsed,
    start_to_close=timedelta(seconds=20),
    give_up_after=timedelta(seconds=25),  # somebody looks at a page, and it is rehearsed again soon
)
REVIEW: Step[ReviewRequest, DecisionRecord] = Step(
    name="review",
    pool=Pool.CORE,
    result=DecisionRecord,
    start_to_close=timedelta(seconds=10),  # a signature and one audit row
    give_up_after=timedelta(seconds=30),  # somebody waits for the answer, and other decisions behind this one
)
REMIND: Step[RemindRequest, None] = Step(
    name="remind",
    pool=Pool.CORE,
    result=type(None),
    start_to_close=timedelta(seconds=10),  # one audit row
    give_up_after=_OUTAGE,
)
EXECUTE: Step[ExecuteRequest, Execution] = Step(
    name="execute",
    pool=Pool.DATABASE,
    result=Execution,
    start_to_close=timedelta(seconds=120),
    give_up_after=_OUTAGE,  # what became of it then, SETTLE tells
    cancellation=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,  # whole or not at all, and known which
)
SETTLE: Step[ExecuteRequest, Settled] = Step(
    name="settle",
    pool=Pool.DATABASE,
    result=Settled,
    start_to_close=timedelta(seconds=30),
    give_up_after=timedelta(days=7),  # it may have been committed, and only the ledger knows: people get a week
)
CONCLUDE: Step[ConcludeRequest, str] = Step(
    name="conclude",
    pool=Pool.CORE,
    result=str,
    start_to_close=timedelta(seconds=10),  # one audit row
    give_up_after=timedelta(days=7),  # people see the end meanwhile, and get a week to bring the control database back
)

# A batch outlasts any outage: its tickets are under way, and somebody wants to know what became of them.
BATCH_PAGE: Step[PageRequest, Page] = Step(
    name="batch_page",
    pool=Pool.CORE,
    result=Page,
    start_to_close=timedelta(seconds=30),
    give_up_after=None,
)
BATCH_RECORD: Step[RecordRequest, Recorded] = Step(
    name="batch_record",
    pool=Pool.CORE,
    result=Recorded,
    start_to_close=timedelta(minutes=2),  # looks at some hundred tickets
    give_up_after=None,
)
BATCH_CANCEL: Step[CancelRequest, Cancelled] = Step(
    name="batch_cancel",
    pool=Pool.CORE,
    result=Cancelled,
    start_to_close=timedelta(minutes=2),  # asks some hundred tickets to end
    give_up_after=None,
)
