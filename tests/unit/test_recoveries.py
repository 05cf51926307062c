"""What a history says about a failure, and what it can't say."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import PendingActivityInfo

from standfast.recoveries import Recovery, recoveries

BEGIN = datetime(2026, 11, 24, 3, 20, tzinfo=UTC)
REFUSED = {"message": "PostgreSQL  can't be\nreached", "applicationFailureInfo": {"type": "service-unavailable"}}
TOO_SLOW = {"message": "activity timeout", "timeoutFailureInfo": {"timeoutType": "TIMEOUT_TYPE_START_TO_CLOSE"}}
SILENT = {"message": "activity timeout", "timeoutFailureInfo": {"timeoutType": "TIMEOUT_TYPE_HEARTBEAT"}}
STICKY = {"scheduledEventId": 1, "timeoutType": "TIMEOUT_TYPE_SCHEDULE_TO_START"}
CUT = {"scheduledEventId": 1, "timeoutType": "TIMEOUT_TYPE_START_TO_CLOSE"}


def history(*events: tuple[float, str, dict[str, Any]]) -> list[HistoryEvent]:
    """A history of these events: seconds since its begin, name, attributes."""
    return [
        ParseDict(
            {
                "eventId": number,
                "eventTime": (BEGIN + timedelta(seconds=at)).isoformat().replace("+00:00", "Z"),
                "eventType": f"EVENT_TYPE_{name}",
                f"{name.title().replace('_', '')[:1].lower()}{name.title().replace('_', '')[1:]}EventAttributes": what,
            },
            HistoryEvent(),
        )
        for number, (at, name, what) in enumerate(events, 1)
    ]


def asked(activity: str = "execute") -> tuple[float, str, dict[str, Any]]:
    what = {
        "activityId": "1",
        "activityType": {"name": activity},
        "heartbeatTimeout": "2s",
        "startToCloseTimeout": "60s",
    }
    return 0, "ACTIVITY_TASK_SCHEDULED", what


def began(at: float, attempt: int, failure: dict[str, Any] | None) -> tuple[float, str, dict[str, Any]]:
    what = {"scheduledEventId": 1, "attempt": attempt} | ({"lastFailure": failure} if failure else {})
    return at, "ACTIVITY_TASK_STARTED", what


DONE = (9, "ACTIVITY_TASK_COMPLETED", {"scheduledEventId": 1})


def only(*events: tuple[float, str, dict[str, Any]]) -> Recovery:
    (found,) = recoveries("ticket/shop/T-1", history(*events))
    return found


@pytest.mark.parametrize(
    ("failure", "failed", "words"),
    [
        (SILENT, "worker-lost", "the worker went away (no heartbeat for 2 s)"),
        (TOO_SLOW, "timed-out", "no answer within 60 s"),
        (REFUSED, "service-unavailable", "PostgreSQL can't be reached"),
        ({"message": ""}, "unknown", "(without a message)"),
    ],
)
def test_a_retried_step_says_what_its_last_attempt_failed_with(
    failure: dict[str, Any], failed: str, words: str
) -> None:
    found = only(asked(), began(2.6, 3, failure), DONE)
    assert (found.failed, found.failure, found.attempt) == (failed, words, 3)
    assert (found.seconds, found.progress) == (2.6, "execution went on with attempt 3 after 2.6 s")


def test_a_step_that_succeeds_at_once_is_no_recovery() -> None:
    assert recoveries("w", history(asked(), began(0.1, 1, None), DONE)) == []


def test_a_step_that_gave_up_is_no_recovery_but_a_final_error_is_an_answer() -> None:
    gave_up = {"scheduledEventId": 1, "retryState": "RETRY_STATE_TIMEOUT"}
    assert recoveries("w", history(asked(), began(1, 7, REFUSED), (2, "ACTIVITY_TASK_FAILED", gave_up))) == []
    final = {"scheduledEventId": 1, "retryState": "RETRY_STATE_NON_RETRYABLE_FAILURE"}
    assert only(asked(), began(1, 2, SILENT), (2, "ACTIVITY_TASK_FAILED", final)).seconds == 1


def test_a_step_that_was_cancelled_before_it_began_is_no_recovery() -> None:
    assert recoveries("w", history(asked(), (1, "ACTIVITY_TASK_CANCELED", {"scheduledEventId": 1}))) == []


@pytest.mark.parametrize(
    ("late", "words"),
    [
        (STICKY, "its worker went away (a task waited for it for 1.0 s)"),
        (CUT, "its worker went away in the middle of a task (no answer for 1.0 s)"),
    ],
)
def test_a_workflow_goes_on_when_a_task_of_it_is_completed_again(late: dict[str, Any], words: str) -> None:
    events = [
        (0, "WORKFLOW_TASK_SCHEDULED", {}),
        (1, "WORKFLOW_TASK_TIMED_OUT", late),
        (1, "WORKFLOW_TASK_SCHEDULED", {}),
    ]
    going_on = only(*events)
    assert (going_on.seconds, going_on.progress) == (None, "workflow has not gone on yet")
    found = only(*events, (1.4, "WORKFLOW_TASK_COMPLETED", {}), (5, "WORKFLOW_TASK_COMPLETED", {}))
    assert (found.seconds, found.failure) == (1.4, words)
    assert (found.progress, found.failed) == ("workflow went on after 1.4 s", "worker-lost")


def test_a_task_that_only_has_to_be_done_once_more_is_no_failure() -> None:
    news, broken = ({"cause": f"WORKFLOW_TASK_FAILED_CAUSE_{cause}"} for cause in ("UNHANDLED_COMMAND", "UNSPECIFIED"))
    done: tuple[float, str, dict[str, Any]] = (2, "WORKFLOW_TASK_COMPLETED", {})
    assert recoveries("w", history((1, "WORKFLOW_TASK_FAILED", news), done)) == []
    found = only((1, "WORKFLOW_TASK_FAILED", broken | {"failure": {"message": "no such attribute"}}), done)
    assert (found.failed, found.failure) == (
        "workflow-task-failed",
        "a worker failed on the workflow itself: no such attribute",
    )


def test_what_fails_just_now_comes_from_the_description() -> None:
    pending = ParseDict({"activityId": "1", "attempt": 4, "lastFailure": REFUSED}, PendingActivityInfo())
    fine = ParseDict({"activityId": "2", "attempt": 1}, PendingActivityInfo())
    (found,) = recoveries("w", history(asked("validate")), [pending, fine])
    assert (found.seconds, found.progress) == (None, "validation fails, attempt 4 is under way or due")
