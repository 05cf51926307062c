"""The progress bar of a batch, on stderr; where there is no terminal, a line now and then."""

from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as RichProgress

from standfast.batch import BatchState, Progress, TicketState

_LINE_EVERY = 10.0  # seconds


class Bar:
    """Shows how far a batch is while it is entered."""

    def __init__(self, batch_id: str) -> None:
        self._console = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)
        self._drawn = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rest]}", markup=False),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._drawn.add_task(batch_id, total=None, rest="")
        self._last_line = -_LINE_EVERY

    def __enter__(self) -> Self:
        self._drawn.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drawn.stop()

    def show(self, progress: Progress) -> None:
        """Show this."""
        rest = _rest(progress)
        self._drawn.update(self._task, total=progress.tickets, completed=progress.ended, rest=rest)
        soon = monotonic() - self._last_line < _LINE_EVERY and not progress.state.is_end
        if self._console.is_terminal or soon:
            return
        self._last_line = monotonic()
        self._console.print(f"{progress.batch_id}  {progress.ended}/{progress.tickets}  {rest}")


def _rest(progress: Progress) -> str:
    """Return what the bar itself doesn't show."""
    parts = [] if progress.state is BatchState.RUNNING else [progress.state.value]
    parts += [
        f"{number} {state.value}"
        for state, number in sorted(progress.states.items())
        if state not in (TicketState.READY, TicketState.DONE)
    ]
    if progress.ended_per_minute:
        parts.append(f"{progress.ended_per_minute:.0f} a minute")
    if progress.seconds_left:
        parts.append(f"{_duration(progress.seconds_left)} left")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
