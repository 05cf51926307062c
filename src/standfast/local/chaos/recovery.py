"""How long work stood still after each fault, measured from the histories.

Measured is each piece of work that a fault disturbed, from the moment of the fault (or from the moment the work came
up, if that was later) to the next event of real work on it:

- an activity that the hit worker had in hand, or was handed afterwards: to the start of the attempt that came through;
- a workflow task that the hit worker had in hand, was handed afterwards, or that waited in the dead worker's sticky
  queue: to the next workflow task that was completed;
- what a frozen worker finished itself, once it went on: to that end;
- what was under way when Temporal went: the same as with a worker, else to its end;
- an activity that was under way while the databases were away: to its end, since an attempt may have started in vain;
- a model request that met trouble: from the first such answer to its end.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from statistics import median

from standfast import steps
from standfast.local.chaos.faults import FAULTS, How, ModelFault, ProcessFault
from standfast.local.chaos.histories import ActivityRun, End, History, TaskRun
from standfast.local.chaos.injection import Injected
from standfast.local.chaos.provider import Hit
from standfast.local.chaos.tickets import ticket_number
from standfast.steps import Pool


class Cause(StrEnum):
    """What disturbed work was waiting for."""

    HEARTBEAT = f"heartbeat time-out ({steps.HEARTBEAT.total_seconds():g} s), then a retry"
    TASK = f"workflow task time-out ({steps.WORKFLOW_TASK.total_seconds():g} s)"
    PLANNER_TASK = f"planner's workflow task time-out ({steps.PLANNER_TASK.total_seconds():g} s)"
    STICKY = f"sticky queue time-out ({steps.STICKY_QUEUE.total_seconds():g} s)"
    WAKING = "the frozen process itself"
    ABSENCE = "the service's absence"
    RETRY = "the service's absence, then a retry"
    ANSWER = "retries and the answer itself"


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """One piece of work that a fault disturbed."""

    ticket: str
    """Workflow id of its ticket."""
    workflow_id: str
    work: str
    """The activity's name, or `workflow task`."""
    attempt: int
    """The activity's attempt that came through; 1 for a workflow task."""
    seconds: float
    """Until the next progress."""
    seconds_since_end: float
    """The same, counted from the end of the fault; 0 if progress came before it."""
    cause: Cause


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """One fault and what it did."""

    injected: Injected
    recoveries: tuple[Recovery, ...]
    gap: float | None
    """Seconds in which there was work for the hit pool and none of it went on; None if no worker was hit."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the table: all faults of one kind. Times in seconds; None if nothing was disturbed."""

    fault: str
    times: int
    tickets: int
    """How many were affected, counted per fault."""
    median: float | None
    max: float | None
    max_lasted: float
    """The longest of the faults themselves: absence, freeze or misbehaviour."""
    median_since_end: float | None
    max_since_end: float | None
    max_gap: float | None
    dominated_by: str
    """What the slowest piece of work was waiting for."""


@dataclass(frozen=True, kw_only=True)
class _Work:
    """A piece of work, in the same form for activities and workflow tasks."""

    history: History
    name: str
    is_activity: bool
    pool: Pool
    came_up: datetime
    through: datetime
    """The attempt that came through: its start if it is an activity's, else its end."""
    ended: datetime
    identity: str
    """Of the worker that came through with it."""
    lost: Cause | None
    """How an earlier attempt was lost without a word."""
    attempt: int
    retried: bool


def measure(injected: Sequence[Injected], histories: Iterable[History], hits: Sequence[Hit]) -> list[Disturbance]:
    """Return what each fault did. The time of one ends where the next one begins."""
    works = [work for history in histories for work in _works(history)]
    found = []
    for number, fault in enumerate(injected):
        later = injected[number + 1 :]
        near = [
            work
            for work in works
            if work.ended > fault.at
            and not (later and work.came_up >= later[0].at)
            and not (work.lost and any(_could_lose(one, work) for one in later))
        ]
        found.append(
            Disturbance(injected=fault, recoveries=tuple(_recoveries(fault, near, hits)), gap=_gap(fault, near))
        )
    return found


def _could_lose(fault: Injected, work: _Work) -> bool:
    """Tell whether an attempt may have been lost by this fault; of several it is the last one's doing."""
    if isinstance(fault.fault, ModelFault) or fault.at >= work.through:
        return False
    return fault.fault.pool is work.pool or fault.fault.service == "temporal"


def table(disturbances: Sequence[Disturbance]) -> list[Line]:
    """Return a line for each kind of fault that was injected."""
    by_kind = {fault: [one for one in disturbances if one.injected.fault == fault] for fault in FAULTS}
    return [_line(fault.name, same) for fault, same in by_kind.items() if same]


def _line(name: str, disturbances: Sequence[Disturbance]) -> Line:
    recoveries = [recovery for one in disturbances for recovery in one.recoveries]
    seconds = [recovery.seconds for recovery in recoveries]
    since_end = [recovery.seconds_since_end for recovery in recoveries]
    gaps = [one.gap for one in disturbances if one.gap is not None]
    return Line(
        fault=name,
        times=len(disturbances),
        tickets=sum(len({recovery.ticket for recovery in one.recoveries}) for one in disturbances),
        median=median(seconds) if seconds else None,
        max=max(seconds, default=None),
        max_lasted=max(one.injected.seconds for one in disturbances),
        median_since_end=median(since_end) if since_end else None,
        max_since_end=max(since_end, default=None),
        max_gap=max(gaps, default=None),
        dominated_by=max(recoveries, key=lambda recovery: recovery.seconds).cause if recoveries else "",
    )


def _recoveries(fault: Injected, works: Iterable[_Work], hits: Sequence[Hit]) -> Iterator[Recovery]:
    for work in works:
        match fault.fault:
            case ModelFault():
                found = _misanswered(fault, work, hits)
            case ProcessFault(pool=Pool() as pool):
                found = _in_hand(fault, work) if work.pool is pool else None
            case ProcessFault(service="temporal"):
                found = _under_way(fault, work)
            case _:
                found = _without_database(fault, work)
        if found is not None:
            yield found


def _misanswered(fault: Injected, work: _Work, hits: Sequence[Hit]) -> Recovery | None:
    if not work.name.endswith("model_request"):
        return None
    met = [
        hit.at
        for hit in hits
        if fault.at <= hit.at <= fault.ended_at
        and work.came_up <= hit.at < work.ended
        and hit.ticket == ticket_number(work.history.ticket)
    ]
    return _recovery(fault, work, min(met), work.ended, Cause.ANSWER) if met else None


def _in_hand(fault: Injected, work: _Work) -> Recovery | None:
    since = max(fault.at, work.came_up)
    if work.lost is not None and work.through > fault.at:
        return _recovery(fault, work, since, work.through, work.lost)
    frozen = isinstance(fault.fault, ProcessFault) and fault.fault.how is How.FREEZE
    if frozen and _is_victims(fault, work) and work.came_up < fault.ended_at <= work.ended:
        return _recovery(fault, work, since, work.ended, Cause.WAKING)
    return None


def _under_way(fault: Injected, work: _Work) -> Recovery | None:
    since = max(fault.at, work.came_up)
    if work.lost is not None and work.through > fault.at:
        return _recovery(fault, work, since, work.through, work.lost)
    if work.came_up < fault.at:
        progress = work.through if work.through > fault.at else work.ended
        return _recovery(fault, work, since, progress, Cause.RETRY if work.retried else Cause.ABSENCE)
    return None


def _without_database(fault: Injected, work: _Work) -> Recovery | None:
    if not work.is_activity or work.came_up >= fault.ended_at:
        return None
    cause = Cause.RETRY if work.retried else Cause.ABSENCE
    return _recovery(fault, work, max(fault.at, work.came_up), work.ended, cause)


def _recovery(fault: Injected, work: _Work, since: datetime, progress: datetime, cause: Cause) -> Recovery:
    since_end = (progress - max(since, fault.ended_at)).total_seconds()
    return Recovery(
        ticket=work.history.ticket,
        workflow_id=work.history.workflow_id,
        work=work.name,
        attempt=work.attempt,
        seconds=(progress - since).total_seconds(),
        seconds_since_end=max(0.0, since_end),
        cause=cause,
    )


def _gap(fault: Injected, works: Sequence[_Work]) -> float | None:
    pool = fault.fault.pool if isinstance(fault.fault, ProcessFault) else None
    mine = [work for work in works if work.pool is pool]
    moments = [m for work in mine if not _is_victims(fault, work) for m in (work.through, work.ended) if m > fault.at]
    if not moments:
        return None
    since = max(fault.at, min(work.came_up for work in mine))
    return max(0.0, (min(moments) - since).total_seconds())


def _is_victims(fault: Injected, work: _Work) -> bool:
    return work.identity.startswith(f"{fault.pid}@")


def _works(history: History) -> Iterator[_Work]:
    for run in history.activities:
        if run.closed_at is not None:
            yield _activity(history, run, run.closed_at)
    completed = [task for task in history.tasks if task.end is End.COMPLETED]
    for task in history.tasks:
        through = next((c for c in completed if c.scheduled_at >= task.scheduled_at), None)
        if through is not None and through.closed_at is not None:
            yield _task(history, task, through, through.closed_at)


def _activity(history: History, run: ActivityRun, closed_at: datetime) -> _Work:
    return _Work(
        history=history,
        name=run.name,
        is_activity=True,
        pool=Pool(run.queue),
        came_up=run.scheduled_at,
        through=run.started_at or closed_at,
        ended=closed_at,
        identity=run.identity,
        lost=Cause.HEARTBEAT if run.timed_out_before or run.end is End.TIMED_OUT else None,
        attempt=run.attempt,
        retried=run.attempt > 1,
    )


def _task(history: History, task: TaskRun, through: TaskRun, closed_at: datetime) -> _Work:
    pool = Pool.CORE if history.workflow_id == history.ticket else Pool.LLM
    lost = None
    if task.end is End.TIMED_OUT and task.started_at is None:
        lost = Cause.STICKY
    elif task.end is End.TIMED_OUT:
        lost = Cause.TASK if pool is Pool.CORE else Cause.PLANNER_TASK
    return _Work(
        history=history,
        name="workflow task",
        is_activity=False,
        pool=pool,
        came_up=task.scheduled_at,
        through=closed_at,
        ended=closed_at,
        identity=through.identity,
        lost=lost,
        attempt=1,
        retried=task is not through,
    )
