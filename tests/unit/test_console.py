"""What `standfast up` says on its console about services that die and come back."""

import json
import signal
from datetime import UTC, datetime, timedelta

import pytest

from standfast.cli.output import Output
from standfast.cli.services import show
from standfast.local.supervisor import Event, Happening

AT = datetime(2026, 11, 24, 3, 20, 7, tzinfo=UTC)
DIED = Event(at=AT, service="worker-core-1", happening=Happening.DIED, pid=7, exit_status=-signal.SIGKILL)
FAILED = Event(at=AT, service="worker-core-1", happening=Happening.DIED, pid=7, exit_status=3)
BACK = Event(at=AT, service="worker-core-1", happening=Happening.BACK, pid=8, away=timedelta(seconds=2.3456))
READY = Event(at=AT, service="postgres", happening=Happening.READY, pid=9)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (DIED, "03:20:07  worker-core-1      died by SIGKILL\n"),
        (FAILED, "03:20:07  worker-core-1      died with status 3\n"),
        (BACK, "03:20:07  worker-core-1      back after 2.3 s\n"),
        (READY, "03:20:07  postgres           ready\n"),
    ],
)
def test_people_read_how_a_service_ended_and_how_long_it_was_away(
    event: Event, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show(event, Output(as_json=False))
    assert capsys.readouterr().out == line


@pytest.mark.parametrize(
    ("event", "known"),
    [
        (DIED, {"event": "died", "exit_status": -9}),
        (BACK, {"event": "back", "away_seconds": 2.346}),
        (READY, {"event": "ready"}),
    ],
)
def test_machines_read_the_same(event: Event, known: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    show(event, Output(as_json=True))
    shown = json.loads(capsys.readouterr().out)
    assert shown == {"service": event.service, "at": str(AT), "pid": event.pid} | known
