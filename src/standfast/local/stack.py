"""The whole set-up on one machine, as `standfast up` runs it: services, databases, workers and the dashboard."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import BaseModel, SecretStr

from standfast import cluster
from standfast.errors import InvalidInput
from standfast.local import configuration, readiness, sample
from standfast.local.configuration import Document
from standfast.local.home import Home, Secrets
from standfast.local.postgres import Postgres
from standfast.local.supervisor import Event, Service, Status, Supervisor
from standfast.local.temporal import NAMESPACE, TemporalServer
from standfast.settings import Control, Encryption, Settings, Temporal
from standfast.steps import Pool
from standfast.store.databases import Role
from standfast.store.migrate import migrate_control
from standfast.store.roles import CONTROL_ROLE, JOURNAL_ROLE, STORAGE_ROLE
from standfast.web_address import origin

Section = TypeVar("Section", bound=BaseModel)

_CONTROL_DATABASE = "standfast"
_KEY_ID = "local"
# What a process may know of our environment. All else stays out, since it may hold credentials; only the llm pool gets
# everything, for a provider's key may have any name.
_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH")
# A pool of one would wait for its only worker to start again; another one takes over within its heartbeat.
_WORKERS = 2
_STOP_GRACE = timedelta(seconds=35)  # longer than any pool takes to finish its activities, see standfast.worker


class Stack:
    """Starts everything on `async with`, keeps it running, and stops it in order, leaving no process behind.

    `settings` are those that people chose (`load_settings(local=False)`): the model, the agent, targets of their own
    instead of the sample shop. `on_event` is told what happens to the services.

    Raises, on entering:
        InvalidInput: the home folder is in use or damaged, or can't be used, or the settings don't fit a local set-up.
        ServiceUnavailable: a service can't come up; the message has the last lines of its log.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        home: Path,
        on_event: Callable[[Event], None],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._chosen = settings
        self._home = Home(home)
        self._on_event = on_event
        self._environment = environment
        self._supervisor = Supervisor(self._home.folder / "logs", self._noted)
        self._resources = AsyncExitStack()
        self.settings = settings
        """What people chose, completed with the addresses and credentials of this set-up."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as resources:
            with self._home.used():
                await self._start(resources)
            self._resources = resources.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    def status(self) -> tuple[Status, ...]:
        """Return all services with their process ids, in the order of their start."""
        return self._supervisor.status()

    @property
    def dashboard_url(self) -> str:
        """Address of the dashboard."""
        return origin(self.settings.dashboard.host, self.settings.dashboard.port)

    async def _start(self, resources: AsyncExitStack) -> None:
        _check(self._chosen)
        resources.enter_context(self._home.lock())
        kept = self._home.secrets()
        ports = self._home.ports("postgres", "temporal", "temporal-ui", "codec-server", "model-server", "dashboard")
        postgres = Postgres(self._home.folder / "postgres", port=ports["postgres"])
        temporal = TemporalServer(self._home.folder / "temporal", port=ports["temporal"], ui_port=ports["temporal-ui"])
        await postgres.prepare()
        self.settings = self._completed(kept, ports, postgres, temporal)
        await resources.enter_async_context(self._supervisor)
        await self._supervisor.start(postgres.service(), temporal.service())
        await self._prepare_databases(postgres, kept)
        self._home.write("local.toml", configuration.to_toml(configuration.operator(self.settings)))
        self._home.write("temporal.toml", configuration.to_toml(configuration.temporal_program(self.settings)))
        self._written("owner", configuration.owner(self.settings))
        await self._supervisor.start(*await self._processes())

    def _completed(
        self, kept: Secrets, ports: Mapping[str, int], postgres: Postgres, temporal: TemporalServer
    ) -> Settings:
        """Fill in what people left open."""
        chosen = self._chosen
        control, journal, storage = (
            SecretStr(postgres.url(_CONTROL_DATABASE, user=role, password=password))
            for role, password in _control_passwords(kept).items()
        )
        model_server = f"http://127.0.0.1:{ports['model-server']}/v1"
        codec_server = _defaults(chosen.codec_server, port=ports["codec-server"], token=SecretStr(kept.codec_token))
        filled: Document = {
            "home": self._home.folder,
            "control": chosen.control
            if chosen.control.url
            else Control(url=control, journal=journal, owner=SecretStr(postgres.url(_CONTROL_DATABASE))),
            "storage": chosen.storage if chosen.control.url else _defaults(chosen.storage, url=storage),
            "temporal": Temporal(
                address=temporal.address,
                namespace=NAMESPACE,
                ui=origin(codec_server.host, codec_server.port),
                environment_configuration=False,
            ),
            "codec_server": codec_server.model_copy(update={"ui": temporal.ui}),
            "planner": _defaults(chosen.planner, local_url=model_server),
            "review": _defaults(chosen.review, solo=chosen.dashboard.sign_in is None),
            "dashboard": _defaults(chosen.dashboard, port=ports["dashboard"]),
        }
        if chosen.encryption.enabled and not chosen.encryption.places:
            filled["encryption"] = Encryption(file=self._home.key_file())
        if chosen.review.signing_key is None:
            keys = {
                "signing_key": SecretStr(kept.signing_key),
                "signing_key_id": _KEY_ID,
                "public_keys": {**chosen.review.public_keys, _KEY_ID: kept.public_key},
            }
            filled["review"] = filled["review"].model_copy(update=keys)
        if not chosen.targets:
            filled["targets"] = {sample.TARGET: sample.target(postgres, kept)}
            filled["default_target"] = sample.TARGET
            filled["planner"] = _defaults(filled["planner"], playbooks=sample.PLAYBOOKS)
        return chosen.model_copy(update=filled)

    async def _prepare_databases(self, postgres: Postgres, kept: Secrets) -> None:
        if self._chosen.control.url is None:
            await postgres.create_database(_CONTROL_DATABASE)
            await migrate_control(postgres.url(_CONTROL_DATABASE), _control_passwords(kept))
        if not self._chosen.targets:
            await sample.prepare(postgres, kept, self.settings)

    async def _processes(self) -> list[Service]:
        client = await cluster.connect(self.settings)
        services = [
            self._process(
                f"worker-{pool}-{number}",
                ("worker", "--pool", pool),
                self._written(pool, configuration.pool(self.settings, pool)),
                readiness.polls(client, pool),
                whole_environment=pool is Pool.LLM,
            )
            for pool in Pool
            for number in range(1, _WORKERS + 1)
        ]
        planner = self.settings.planner
        if (
            planner.model == "local"
            and planner.agent is None
            and "local_url" not in self._chosen.planner.model_fields_set
        ):
            ready = readiness.answers(f"{planner.local_url}/models")
            file = self._written("model-server", configuration.model_server(self.settings))
            services.insert(0, self._process("model-server", ("model-server",), file, ready))
        services.append(self._page("codec-server", str(self.settings.temporal.ui), configuration.codec_server))
        services.append(self._page("dashboard", self.dashboard_url, configuration.dashboard))
        return services

    def _page(self, name: str, address: str, document: Callable[[Settings], Document]) -> Service:
        """Return a web server of ours."""
        ready = readiness.answers(f"{address}/healthz")
        return self._process(name, (name,), self._written(name, document(self.settings)), ready)

    def _process(
        self,
        name: str,
        command: tuple[str, ...],
        file: Path,
        ready: readiness.Ready,
        *,
        whole_environment: bool = False,
    ) -> Service:
        """Return a process of ours, with a settings file that has what it needs."""
        inherited = {
            variable: value
            for variable, value in self._environment.items()
            if (whole_environment and not variable.startswith("STANDFAST_"))
            or variable in _INHERITED
            or (self.settings.storage.s3 is not None and variable.startswith("AWS_"))
        }
        return Service(
            name=name,
            # -P: a file of the working directory must not pass for a module of ours or of Python's.
            argv=(sys.executable, "-P", "-m", "standfast.cli", "--config", str(file), *command),
            environment={**inherited, "STANDFAST_HOME": str(self._home.folder)},
            folder=Path.cwd(),
            ready=ready,
            stop_grace=_STOP_GRACE,
        )

    def _written(self, name: str, document: Document) -> Path:
        return self._home.write(f"config/{name}.toml", configuration.to_toml(document))

    def _noted(self, event: Event) -> None:
        """Pass the event on, and keep the process ids in the home folder for those who look from outside."""
        try:
            self._home.write("services.json", json.dumps([asdict(status) for status in self.status()], indent=2))
        finally:
            self._on_event(event)


def _check(chosen: Settings) -> None:
    """Return if `standfast up` can complete what people chose.

    Raises:
        InvalidInput: it brings something that they chose, or can't bring what they left open.
    """
    if chosen.temporal.model_fields_set:
        named = ", ".join(f"temporal.{name}" for name in sorted(chosen.temporal.model_fields_set))
        raise InvalidInput(
            f"the settings name a Temporal server ({named}), but `standfast up` brings its own; remove them, "
            "or start `standfast worker` and `standfast dashboard` for that server"
        )
    for name, target in chosen.targets.items():
        if missing := [role for role in (Role.READER, Role.WRITER) if getattr(target, role) is None]:
            raise InvalidInput(
                f"targets.{name} has no {' and no '.join(missing)}; `standfast migrate` creates the roles, "
                "give them passwords and set their URLs"
            )
    if chosen.control.url is not None:
        urls = {"storage.url": chosen.storage.url, "control.journal": chosen.control.journal}
        if unset := [name for name, url in urls.items() if url is None]:
            raise InvalidInput(
                f"control.url is set, and not every process may have it: set {' and '.join(unset)}, too; "
                f"`standfast migrate` creates the roles {STORAGE_ROLE} and {JOURNAL_ROLE}, give them passwords"
            )


def _control_passwords(kept: Secrets) -> dict[str, str]:
    return {CONTROL_ROLE: kept.control, JOURNAL_ROLE: kept.journal, STORAGE_ROLE: kept.storage}


def _defaults(section: Section, **values: Any) -> Section:
    """Return the section with `values` for what people left open."""
    return section.model_copy(update={k: v for k, v in values.items() if k not in section.model_fields_set})
