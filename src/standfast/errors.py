"""Everything Standfast raises on purpose.

StandfastError                     has a stable `code`, and the exit code of the command line
├── InvalidInput                   2  a ticket, plan, setting, file or argument is wrong
│   ├── UnknownTarget              2  no such target in the settings
│   ├── TicketConflict             2  the id is used by a ticket with other content
│   ├── PayloadTooLarge            2  more than can be passed from step to step
│   ├── UnknownTicket              2  no workflow has this id
│   ├── BatchConflict              2  the id is used by a batch of other tickets
│   └── UnknownBatch               2  no batch has this id
├── BatchEnded                     1  too late: the batch has ended
├── DecisionRefused                   the decision changed nothing: 2 stale, 4 unsigned or not yours to take, 1 too late
│   └── DecisionUnheard               the same, and no workflow was there to put it on record
├── PayloadLost                    1  stored content is not there any more, or not what was stored
├── NotPermitted                   4  a credential this process needs was not given to it
│   └── UnknownKey                 4  a payload is encrypted with a key that this process doesn't have
├── PayloadRefused                 1  a payload was changed, or belongs to another workflow
└── ServiceUnavailable             3  Temporal, PostgreSQL or a model can't be reached
    ├── NotMigrated                3  a database lacks what `standfast migrate` makes
    └── DecisionUnrecorded         3  a decision that could not be put on record, so it does not count
"""


class StandfastError(Exception):
    """Base of all errors; the message says what happened, with which value, and what to do next."""

    code = "standfast"
    exit_code = 1


class InvalidInput(StandfastError):  # noqa: N818 - reads as what it is where it is caught
    """Input that names file, line, field, value and what was expected."""

    code = "invalid-input"
    exit_code = 2


class UnknownTarget(InvalidInput):
    """A target that the settings don't name."""

    code = "unknown-target"


class TicketConflict(InvalidInput):
    """The ticket's id was used before, with other content."""

    code = "ticket-conflict"


class UnknownTicket(InvalidInput):
    """No ticket workflow has this id."""

    code = "unknown-ticket"


class PayloadTooLarge(InvalidInput):
    """More than can be passed from step to step. Temporal is told by this name not to try again."""

    code = "payload-too-large"


class PayloadLost(StandfastError):  # noqa: N818
    """Stored content that is not there any more, or is not what was stored."""

    code = "payload-lost"


class BatchConflict(InvalidInput):
    """The batch's id was used before, for other tickets."""

    code = "batch-conflict"


class UnknownBatch(InvalidInput):
    """No batch has this id."""

    code = "unknown-batch"


class BatchEnded(StandfastError):  # noqa: N818
    """Nothing can be done about a batch that has ended."""

    code = "batch-ended"


class DecisionRefused(StandfastError):  # noqa: N818
    """A decision that changed nothing; `reason` is a stable code, see standfast.decision.Refusal."""

    code = "decision-refused"

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.exit_code = _EXIT_CODES.get(reason, 1)


class DecisionUnheard(DecisionRefused):
    """A decision that no workflow has considered: the ticket has ended, or was asked too often."""


_EXIT_CODES = {
    "stale-plan": 2,
    "stale-rows": 2,
    "judged-anew": 2,
    "nothing-to-undo": 2,
    "comment-required": 2,
    "unsigned": 4,
    "bad-signature": 4,
    "expired-signature": 4,
    "own-ticket": 4,
    "out-of-scope": 4,
}


class NotPermitted(StandfastError):  # noqa: N818
    """A credential that this process was not given."""

    code = "not-permitted"
    exit_code = 4


class UnknownKey(NotPermitted):
    """A payload is encrypted with a key that this process doesn't have; with the key it can be read."""

    code = "unknown-key"


class PayloadRefused(StandfastError):  # noqa: N818
    """A payload that doesn't decrypt, or that belongs to another workflow; nothing heals it."""

    code = "payload-refused"


class ServiceUnavailable(StandfastError):  # noqa: N818
    """A service that can't be reached; the message names its address without credentials."""

    code = "service-unavailable"
    exit_code = 3


class NotMigrated(ServiceUnavailable):
    """A database that lacks what this version needs there. Once it was migrated, work goes on."""

    code = "not-migrated"


class DecisionUnrecorded(ServiceUnavailable):
    """A decision that could not be put on record, so it does not count. Delivered again it ends the same."""

    code = "decision-unrecorded"


def first_line(error: Exception) -> str:
    """Return the first line of what a library says, its kind if it says nothing; further lines may quote anything."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
