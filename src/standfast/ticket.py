"""A ticket: what somebody asks for. Its body is untrusted text."""

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    RootModel,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import to_json

from standfast.domain import ExactJson, Submission, digest

MAX_BODY_BYTES = 64 * 1024
MAX_BYTES = 32 * 2**20
"""Of a whole ticket as JSON, with all that integrations put into it: every step gets it."""


def _fits(body: str) -> str:
    size = len(body.encode("utf-8", errors="surrogatepass"))
    if size > MAX_BODY_BYTES:
        msg = f"the body has {size} bytes, at most {MAX_BODY_BYTES} are allowed"
        raise ValueError(msg)
    return body


def _text(value: str) -> str:
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        msg = "contains a NUL or a lone surrogate, which PostgreSQL can't hold"
        raise ValueError(msg)
    return value


_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_TARGET = r"[a-z][a-z0-9_-]{0,62}"
WORKFLOW_ID = re.compile(f"ticket/{_TARGET}/{_ID}")
"""What the id of a ticket's workflow looks like."""

Text = Annotated[str, AfterValidator(_text), Field(json_schema_extra={"pattern": r"^[^\u0000]*$"})]
Identifier = Annotated[str, StringConstraints(pattern=f"^{_ID}$")]


class Ticket(Submission):
    """One request for a change. Two tickets with the same target and id are the same ticket."""

    id: Identifier
    """Unique within the target."""
    title: Annotated[Text, StringConstraints(max_length=500)] = ""
    body: Annotated[Text, AfterValidator(_fits), Field(json_schema_extra={"maxLength": MAX_BODY_BYTES})]
    """Free text, untrusted, at most 64 KiB in UTF-8."""
    requester: Annotated[Text, StringConstraints(min_length=1, max_length=320)]
    target: Annotated[str, StringConstraints(pattern=f"^{_TARGET}$")]
    """Name of the target in the settings."""
    priority: Annotated[Text, StringConstraints(max_length=32)] = "normal"
    labels: tuple[Annotated[Text, StringConstraints(max_length=100)], ...] = ()
    subject: dict[str, ExactJson] = Field(default_factory=dict)
    """What the ticket is about, such as {"order_id": 1042}: where context retrieval starts."""
    metadata: dict[str, ExactJson] = Field(default_factory=dict)
    """For integrations; kept with the ticket, never shown to a model."""
    undo_of: Annotated[str, StringConstraints(pattern=r"^ticket/", max_length=256)] | None = None
    """Workflow id of the ticket whose executed plan is to be taken back. No agent plans then: the ledger knows how."""

    @model_validator(mode="after")
    def _passes(self) -> "Ticket":
        try:
            size = self.size
        except ValueError:
            msg = "the ticket contains a lone surrogate, which no JSON in UTF-8 can hold"
            raise ValueError(msg) from None
        if size > MAX_BYTES:
            msg = f"the ticket has {size} bytes, at most {MAX_BYTES} are allowed"
            raise ValueError(msg)
        return self

    @property
    def size(self) -> int:
        """Bytes that it has as JSON."""
        return len(to_json(self))

    @property
    def workflow_id(self) -> str:
        """The id of the ticket's workflow, the same on every submission."""
        return f"ticket/{self.target}/{self.id}"

    @property
    def digest(self) -> str:
        """SHA-256 over all fields: tells the same ticket from another one under the same id."""
        return digest(self.model_dump(mode="json", exclude={"undo_of"} if self.undo_of is None else None))


class NoTicket(RootModel[dict[str, Any]]):
    """What a workflow was started with by somebody who does not know what a ticket is, or how large it may be."""

    @model_validator(mode="after")
    def _meant_one(self) -> "NoTicket":
        if "body" not in self.root:
            msg = "is not meant to be a ticket"
            raise ValueError(msg)
        return self

    @property
    def problem(self) -> str:
        """What is wrong with it."""
        try:
            Ticket.model_validate(self.root)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            return f"not a ticket: field {'.'.join(map(str, problem['loc'])) or '(whole)'}: {problem['msg']}"
        return "not a ticket"
