"""A ticket: what somebody asks for. Its body is untrusted text."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from standfast.domain import ExactJson, Submission, digest

MAX_BODY_BYTES = 64 * 1024


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


Text = Annotated[str, AfterValidator(_text)]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


class Ticket(Submission):
    """One request for a change. Two tickets with the same target and id are the same ticket."""

    id: Identifier
    """Unique within the target."""
    title: Annotated[Text, StringConstraints(max_length=500)] = ""
    body: Annotated[Text, AfterValidator(_fits)]
    """Free text, untrusted, at most 64 KiB in UTF-8."""
    requester: Annotated[Text, StringConstraints(min_length=1, max_length=320)]
    target: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
    """Name of the target in the settings."""
    priority: Annotated[Text, StringConstraints(max_length=32)] = "normal"
    labels: tuple[Annotated[Text, StringConstraints(max_length=100)], ...] = ()
    subject: dict[str, ExactJson] = Field(default_factory=dict)
    """What the ticket is about, such as {"order_id": 1042}: where context retrieval starts."""
    metadata: dict[str, ExactJson] = Field(default_factory=dict)
    """For integrations; kept with the ticket, never shown to a model."""
    undo_of: Annotated[str, StringConstraints(pattern=r"^ticket/", max_length=256)] | None = None
    """Workflow id of the ticket whose executed plan is to be taken back. No agent plans then: the ledger knows how."""

    @property
    def workflow_id(self) -> str:
        """The id of the ticket's workflow, the same on every submission."""
        return f"ticket/{self.target}/{self.id}"

    @property
    def digest(self) -> str:
        """SHA-256 over all fields: tells the same ticket from another one under the same id."""
        return digest(self.model_dump(mode="json", exclude={"undo_of"} if self.undo_of is None else None))
