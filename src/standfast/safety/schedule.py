"""When changes may be made: freezes, in which they wait, and windows, outside of which they do."""

from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator

from standfast.domain import Submission
from standfast.report import Verdict

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_WEEK: tuple[Weekday, ...] = get_args(Weekday)


def _quoted(value: Any) -> Any:
    if isinstance(value, int):
        msg = 'write it in quotes, such as "12:30", which YAML takes for a number otherwise'
        raise ValueError(msg)  # noqa: TRY004 - pydantic shows ValueErrors with their place
    return value


Clock = Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$"), BeforeValidator(_quoted)]
"""Hours and minutes of a day, `02:00`."""


class Freeze(Submission):
    """A time in which writes need more care."""

    start: Annotated[datetime, Field(alias="from")]
    end: Annotated[datetime, Field(alias="to")]
    verdict: Literal[Verdict.APPROVAL, Verdict.BLOCK] = Verdict.APPROVAL
    reason: str = ""

    @field_validator("start", "end", mode="before")
    @classmethod
    def _iso(cls, value: Any) -> Any:
        """Take times without a zone as UTC; YAML turns some of them into dates and times by itself."""
        if isinstance(value, date) and not isinstance(value, datetime):
            value = value.isoformat()
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value

    @model_validator(mode="after")
    def _in_order(self) -> "Freeze":
        if self.end <= self.start:
            msg = f"ends at {self.end} before it begins at {self.start}"
            raise ValueError(msg)
        return self


class Window(Submission):
    """A time of the week in which writes may be automatic.

    If there are windows, a write outside of all of them needs a person, or is blocked if the `verdict` of any of them
    says so. A window that ends at the time of its beginning or before ends on the next day; its days are those on which
    it begins. Times are those of a clock on the wall in `timezone`, whatever daylight saving does.
    """

    days: Annotated[tuple[Weekday, ...], Field(min_length=1)] = _WEEK
    start: Annotated[Clock, Field(alias="from")]
    end: Annotated[Clock, Field(alias="to")]
    timezone: str = "UTC"
    """A name of the time zone database, such as `Europe/Berlin`."""
    verdict: Literal[Verdict.APPROVAL, Verdict.BLOCK] = Verdict.APPROVAL

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            _zone(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            msg = f"no time zone {name!r} is known here; expected a name such as Europe/Berlin"
            raise ValueError(msg) from None
        return name

    def is_open(self, at: datetime) -> bool:
        """Tell whether it is open at a moment."""
        local = at.astimezone(_zone(self.timezone))
        clock = f"{local:%H:%M}"
        today, yesterday = (_WEEK[(local - timedelta(days=days)).weekday()] in self.days for days in (0, 1))
        if self.start < self.end:
            return today and self.start <= clock < self.end
        return (today and clock >= self.start) or (yesterday and clock < self.end)


def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)  # which is known where no database of time zones is installed
