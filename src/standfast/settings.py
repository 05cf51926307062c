"""Typed settings of one process, frozen. Where they come from: `standfast.layers`."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from standfast.decision import Mode
from standfast.errors import UnknownTarget
from standfast.report import Reminder
from standfast.sign_in import Oidc, TrustedProxy
from standfast.web_address import LOOPBACK, WebOrigin, is_loopback

PREFIX = "STANDFAST_"
NESTED = "__"
"""In the names of environment variables."""

TargetName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]

KEY_ID = r"[a-z0-9][a-z0-9_-]{0,62}"
"""Lower case, since an environment variable may hold it."""
KeyId = Annotated[str, StringConstraints(pattern=f"^{KEY_ID}$")]


def _given(secret: SecretStr) -> SecretStr:
    """Return a secret that is not empty; of an empty URL libpq makes whichever server it finds."""
    if not secret.get_secret_value().strip():
        raise PydanticCustomError("empty", "is empty; set it, or leave it out")
    return secret


Secret = Annotated[SecretStr, AfterValidator(_given)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Target(_Section):
    """A PostgreSQL database that plans may change. Each URL is a role of its own; a process has only what it needs."""

    reader: Secret | None = None
    """Read only: context retrieval and the planner's tools."""
    rehearser: Secret | None = None
    """May write; every transaction is rolled back. Defaults to `writer`."""
    writer: Secret | None = None
    """Used by the database pool alone."""
    owner: Secret | None = None
    """Used by `standfast migrate` and `standfast purge` alone."""
    schemas: tuple[str, ...] = ("public",)
    """The search path of every session, what context retrieval describes, and where `standfast migrate` gives rights.
    What plans may name is `schemas` of the constraints."""


class Control(_Section):
    """The database with our own schema.

    It holds constraints, the audit chain, what people were shown, sessions, batches, the journal of model calls and
    large payloads.
    """

    url: Secret | None = None
    journal: Secret | None = None
    """For the llm pool, as a role that may record model calls and nothing else. Where a process has `url`, that will
    do."""
    owner: Secret | None = None
    """Used by `standfast migrate` and `standfast purge` alone."""


class S3(_Section):
    """A bucket of Amazon S3, or of a service that speaks its protocol; AWS's own variables hold the credentials."""

    bucket: Annotated[str, StringConstraints(min_length=1)]
    region: str | None = None
    endpoint: str | None = None
    """Address of another service than Amazon's."""


class Storage(_Section):
    """Where payloads go that are too large for Temporal. Every process needs it."""

    url: Secret | None = None
    """Of the control database, as a role that may add and read payloads and nothing else. Where a process has
    `control.url` anyway, that will do."""
    threshold: Annotated[ByteSize, Field(ge=1024, le=1024 * 1024)] = ByteSize(64 * 1024)
    """From this size on a payload is stored here. Sixty such ones, a tool's calls at once, still fit into one message
    to Temporal (4 MiB)."""
    s3: S3 | None = None
    """Where new payloads are stored instead."""


class Temporal(_Section):
    """Used where neither `temporal.toml` nor `TEMPORAL_*` says otherwise."""

    address: str = "127.0.0.1:7233"
    namespace: str = "default"
    ui: str | None = None
    """Address of Temporal's own web UI, for links."""
    environment_configuration: bool = True
    """Whether `temporal.toml` and `TEMPORAL_*` are read; not for the server of `standfast up`, which is where it is."""


class Deployment(_Section):
    """Which version of the workers this is, where Temporal keeps versions apart; see standfast.deployment."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")] = "standfast"
    build_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")] | None = None
    """Another one for each build. None: workers have no version, and whichever is there goes on with every ticket."""


class Planner(_Section):
    """Who makes the plans."""

    model: str = "local"
    """Any pydantic-ai model name such as `openai:gpt-5`, or `local` for the model on this machine."""
    agent: Annotated[str, StringConstraints(pattern=r"^[\w.]+:\w+$")] | None = None
    """`package.module:name` of a pydantic-ai agent or an async function; replaces `model`."""
    playbooks: Path | None = None
    """Folder of playbook files."""
    local_url: str = "http://127.0.0.1:8321/v1"
    """Where the local model's OpenAI-compatible server listens."""


class Review(_Section):
    """Who may decide."""

    public_keys: dict[str, str] = Field(default_factory=dict)
    """Key id -> Ed25519 public key, base64; the core pool verifies decisions with them."""
    signing_key: Secret | None = None
    """Ed25519 private key, base64; held by the dashboard and by operators."""
    signing_key_id: str = "default"
    solo: bool = False
    """True on a one-person set-up: the requester may decide on an own ticket; such decisions are recorded as solo."""
    expire_after: Annotated[timedelta, Field(gt=timedelta())] = timedelta(days=3)
    """How long a plan waits for people; then its ticket ends with nothing changed."""
    reminders: tuple[Reminder, ...] = (Reminder(after=timedelta(days=1)), Reminder(after=timedelta(days=2)))
    """What happens meanwhile, see there."""

    @field_validator("reminders")
    @classmethod
    def _earliest_first(cls, reminders: tuple[Reminder, ...]) -> tuple[Reminder, ...]:
        return tuple(sorted(reminders, key=lambda reminder: reminder.after))


class Encryption(_Section):
    """How payloads are encrypted before they go to Temporal. The keys come from one of three places."""

    enabled: bool = True
    keys: dict[KeyId, Secret] = Field(default_factory=dict)
    """Key id -> 32 bytes, base64."""
    active: KeyId | None = None
    """Which of `keys` encrypts, all of them decrypt; may be left out if there is only one."""
    file: Path | None = None
    """A key file, as `standfast keys new` writes it."""
    command: tuple[str, ...] = ()
    """A program with its arguments that prints what would be in a key file, such as a secret manager's."""

    accept_plain: bool = False
    """Whether payloads that were never encrypted are read, for as long as tickets from before encryption are under way.
    Meanwhile who can write to Temporal can forge some without a key."""

    @property
    def places(self) -> tuple[str, ...]:
        """Where keys are said to be."""
        return tuple(name for name in ("keys", "file", "command") if getattr(self, name))


class Dashboard(_Section):
    """The web page. Without `oidc` or `trusted_proxy` it is for the people of this machine."""

    host: str = "127.0.0.1"
    port: int = Field(default=8765, ge=0, le=65535)
    url: WebOrigin | None = None
    """Under which people open it, if not http://127.0.0.1 and its port; no other name is answered then."""
    oidc: Oidc | None = None
    trusted_proxy: TrustedProxy | None = None

    @model_validator(mode="after")
    def _one_way_in(self) -> "Dashboard":
        if self.oidc and self.trusted_proxy:
            msg = "oidc and trusted_proxy are both set; one of them has to say who people are"
            raise ValueError(msg)
        if self.sign_in and self.url is None:
            msg = "oidc and trusted_proxy need url: the address under which people open the dashboard"
            raise ValueError(msg)
        return self

    @property
    def sign_in(self) -> Oidc | TrustedProxy | None:
        """Who says who people are; None if they are people of this machine, who got a login link."""
        return self.oidc or self.trusted_proxy

    @property
    def session_modes(self) -> frozenset[Mode]:
        """Whose sessions count, here and at the codec server; a proxy keeps sessions of its own."""
        if self.trusted_proxy is not None:
            return frozenset()
        return frozenset({Mode.SOLO if self.oidc is None else Mode.SESSION})

    @property
    def is_local(self) -> bool:
        """Whether people of this machine alone can open it."""
        return self.host in LOOPBACK and (self.url is None or is_loopback(self.url))


class CodecServer(_Section):
    """The web server that decrypts payloads for Temporal's own UI and command line."""

    host: str = "127.0.0.1"
    port: int = Field(default=8766, ge=0, le=65535)
    token: Secret | None = None
    """What programs send as `Authorization: Bearer TOKEN`; without one, only people who are signed in may ask."""
    ui: str | None = None
    """Address of a Temporal UI that is shown here, to people who are signed in at the dashboard."""


class Settings(BaseSettings):
    """All settings of one process."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=NESTED,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        case_sensitive=False,
    )

    home: Path = Path(".standfast")
    """Not in a file, since files are looked for there."""
    targets: dict[TargetName, Target] = Field(default_factory=dict)
    default_target: TargetName | None = None
    control: Control = Control()
    storage: Storage = Storage()
    temporal: Temporal = Temporal()
    deployment: Deployment = Deployment()
    planner: Planner = Planner()
    review: Review = Review()
    encryption: Encryption = Encryption()
    dashboard: Dashboard = Dashboard()
    codec_server: CodecServer = CodecServer()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment is stronger than files, which are passed as initial values."""
        del settings_cls, dotenv_settings, file_secret_settings
        if isinstance(env_settings, EnvSettingsSource):
            # STANDFAST_CONFIG names the file to read; it is no setting of its own.
            env_settings.env_vars = {k: v for k, v in env_settings.env_vars.items() if k != "standfast_config"}
        return env_settings, init_settings

    def target(self, name: str) -> Target:
        """Return the target called `name`.

        Raises:
            UnknownTarget: the settings don't name it.
        """
        try:
            return self.targets[name]
        except KeyError:
            known = ", ".join(sorted(self.targets)) or "none"
            raise UnknownTarget(f"unknown target {name!r}; the settings name: {known}") from None

    def default_target_name(self) -> str:
        """Return the target of a ticket that names none.

        Raises:
            UnknownTarget: there is neither a default nor a single target.
        """
        if self.default_target is not None:
            return self.default_target
        if len(self.targets) == 1:
            return next(iter(self.targets))
        if not self.targets:
            raise UnknownTarget(
                "the settings name no target; is this the folder of your standfast.toml or `standfast up`?"
            )
        raise UnknownTarget(
            f"the ticket names no target, and the settings have {len(self.targets)} targets and no default_target"
        )
