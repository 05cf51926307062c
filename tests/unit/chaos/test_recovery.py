"""Recoveries are measured from the fault, or from when the work came up, to the next real work on it."""

from dataclasses import replace

import pytest

from standfast.local.chaos import recovery
from standfast.local.chaos.faults import FAULTS, Fault, How, ModelFault, ProcessFault, Trouble
from standfast.local.chaos.histories import ActivityRun, End, History, TaskRun
from standfast.local.chaos.injection import Injected
from standfast.local.chaos.provider import Hit
from standfast.local.chaos.recovery import Cause, Disturbance
from tests.unit.chaos.runs import activity, at

TICKET = "ticket/shop/CHAOS-00001"
KILL = ProcessFault(service="worker-core", how=How.KILL)
(FREEZE,) = (fault for fault in FAULTS if fault.name == "freeze worker-core")
VICTIM, SPARE = "100@here", "200@here"


def injected(fault: Fault, began: float = 10, ended: float = 11) -> Injected:
    return Injected(fault=fault, at=at(began), ended_at=at(ended), service="worker-core-1", pid=100)


def run(scheduled: float, started: float, closed: float, **changes: object) -> ActivityRun:
    """A core activity; the last attempt is the spare worker's unless told otherwise."""
    times = {"scheduled_at": at(scheduled), "started_at": at(started), "closed_at": at(closed), "identity": SPARE}
    return activity(TICKET, "validate", **(times | changes))


def lost(scheduled: float, started: float, closed: float) -> ActivityRun:
    return run(scheduled, started, closed, attempt=2, timed_out_before=True)


def task(scheduled: float, started: float | None, closed: float, end: End = End.COMPLETED) -> TaskRun:
    return TaskRun(
        workflow_id=TICKET,
        scheduled_at=at(scheduled),
        started_at=None if started is None else at(started),
        closed_at=at(closed),
        end=end,
        identity=SPARE,
    )


def measured(fault: Injected, *work: ActivityRun | TaskRun, later: tuple[Injected, ...] = ()) -> Disturbance:
    history = History(
        workflow_id=TICKET,
        activities=tuple(one for one in work if isinstance(one, ActivityRun)),
        tasks=tuple(one for one in work if isinstance(one, TaskRun)),
    )
    return recovery.measure([fault, *later], [history], [])[0]


def seconds(disturbance: Disturbance) -> list[tuple[float, Cause]]:
    return [(round(one.seconds, 3), one.cause) for one in disturbance.recoveries]


def test_an_activity_of_the_dead_worker_is_away_until_its_next_attempt_starts() -> None:
    assert seconds(measured(injected(KILL), lost(9, 12.5, 14))) == [(2.5, Cause.HEARTBEAT)]


def test_work_that_was_handed_to_the_hit_worker_afterwards_counts_from_when_it_came_up() -> None:
    assert seconds(measured(injected(FREEZE, 10, 18), lost(13, 15.5, 16))) == [(2.5, Cause.HEARTBEAT)]


def test_what_no_fault_disturbed_does_not_count() -> None:
    other_pool = replace(lost(9, 12.5, 14), queue="database")
    assert seconds(measured(injected(KILL), run(9, 9.1, 12), run(1, 2, 3), other_pool)) == []


def test_a_workflow_task_is_away_until_the_next_one_is_completed() -> None:
    tasks = (task(9.5, 9.6, 11.6, End.TIMED_OUT), task(11.6, 11.7, 11.8))
    assert seconds(measured(injected(KILL), *tasks)) == [(1.8, Cause.TASK)]


def test_a_workflow_task_in_the_queue_of_a_dead_worker_counts_from_when_it_came_up() -> None:
    tasks = (task(10.5, None, 11.5, End.TIMED_OUT), task(11.5, 11.6, 11.7))
    assert seconds(measured(injected(KILL), *tasks)) == [(1.2, Cause.STICKY)]


def test_what_a_frozen_worker_finishes_itself_was_away_for_as_long() -> None:
    own = run(9, 9.5, 18.5, identity=VICTIM)
    assert seconds(measured(injected(FREEZE, 10, 18), own)) == [(8.5, Cause.WAKING)]
    assert seconds(measured(injected(KILL, 10, 18), own)) == []


def test_of_two_faults_the_later_one_has_lost_the_work() -> None:
    work = lost(10.5, 15, 16)
    later = injected(FREEZE, 12, 20)
    assert seconds(measured(injected(KILL), work, later=(later,))) == []
    elsewhere = injected(ProcessFault(service="worker-llm", how=How.KILL), 12, 20)
    assert seconds(measured(injected(KILL), work, later=(elsewhere,))) == [(4.5, Cause.HEARTBEAT)]


def test_while_temporal_is_away_all_that_was_under_way_counts() -> None:
    fault = injected(ProcessFault(service="temporal", how=How.KILL), 10, 12)
    disturbance = measured(fault, run(9, 9.1, 12.25), run(12.5, 12.6, 13), task(9, 9.1, 12.75))
    assert seconds(disturbance) == [(2.25, Cause.ABSENCE), (2.75, Cause.ABSENCE)]
    assert [one.seconds_since_end for one in disturbance.recoveries] == [0.25, 0.75]


def test_while_the_databases_are_away_only_the_end_of_an_activity_is_progress() -> None:
    fault = injected(ProcessFault(service="postgres", how=How.KILL), 10, 11)
    retried = run(9, 10.5, 13, attempt=3)
    assert seconds(measured(fault, retried, task(9, 9.1, 12))) == [(3.0, Cause.RETRY)]


def test_a_model_request_counts_from_the_first_trouble_that_it_met() -> None:
    request = replace(
        activity(f"{TICKET}/plan/1", "agent__planner__model_request", queue="llm"),
        scheduled_at=at(9),
        started_at=at(12),
        closed_at=at(12.5),
    )
    history = History(workflow_id=f"{TICKET}/plan/1", activities=(request,))
    fault = injected(ModelFault(trouble=Trouble.ERROR))
    hits = [Hit(at=at(10.25), ticket=1), Hit(at=at(10.75), ticket=1), Hit(at=at(10.1), ticket=2)]

    (disturbance,) = recovery.measure([fault], [history], hits)

    assert seconds(disturbance) == [(2.25, Cause.ANSWER)]


@pytest.mark.parametrize(("came_up", "gap"), [(9, 1.5), (11, 0.5), (12, 0.0)])
def test_a_pool_is_idle_while_there_is_work_that_nobody_does(came_up: float, gap: float) -> None:
    progress = max(11.5, came_up)
    assert measured(injected(KILL), run(came_up, progress, 20)).gap == pytest.approx(gap)


def test_the_victims_own_work_is_no_progress_of_its_pool() -> None:
    assert measured(injected(FREEZE), run(9, 10.25, 10.5, identity=VICTIM), run(9, 12, 13)).gap == pytest.approx(2)


def test_the_table_has_a_line_for_each_kind_with_median_and_max() -> None:
    history = History(workflow_id=TICKET, activities=(lost(9, 12, 13), lost(9, 12.5, 14), lost(29, 31, 33)))
    faults = [injected(KILL), injected(KILL, 30, 31), injected(FREEZE, 40, 41)]

    first, second = recovery.table(recovery.measure(faults, [history], []))

    assert (first.fault, first.times, first.tickets) == ("kill worker-core", 2, 2)
    assert first.median == pytest.approx(2.0)
    assert first.max == pytest.approx(2.5)
    assert first.dominated_by == Cause.HEARTBEAT
    assert (second.fault, second.median, second.max, second.dominated_by) == ("freeze worker-core", None, None, "")
