"""Real services for a benchmark, and installations of Standfast on them: databases, settings, worker processes."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from temporalio.client import Client, Plugin

from standfast import cluster
from standfast.client import Standfast
from standfast.codec.keyring import KeyRing
from standfast.local import configuration, readiness
from standfast.local.ports import free_port
from standfast.local.postgres import Postgres
from standfast.local.shop import load_shop
from standfast.local.supervisor import Event, Service, Supervisor
from standfast.local.temporal import TemporalServer
from standfast.safety.constraints import parse_constraints
from standfast.safety.versions import append
from standfast.settings import Settings
from standfast.signing import new_key_pair
from standfast.steps import Pool
from standfast.storage.external import external_storage
from standfast.store.databases import Databases, Role
from standfast.store.migrate import migrate_control, migrate_target
from standfast.store.roles import CONTROL_ROLE, CONTROL_ROLES, JOURNAL_ROLE, STORAGE_ROLE, role_name

TARGET = "shop"
ROOT = Path(__file__).parents[1]
_PASSWORD = "only-for-benchmarks"  # noqa: S105 - the server listens on the loopback and is thrown away
_CONSTRAINTS = files("standfast.local.shop") / "constraints.yaml"


@dataclass(frozen=True)
class Services:
    """What installations stand on."""

    folder: Path
    supervisor: Supervisor
    postgres: Postgres
    resources: AsyncExitStack
    """Of this process, closed before the services are stopped."""

    @classmethod
    @asynccontextmanager
    async def start(cls) -> AsyncIterator["Services"]:
        """Start a PostgreSQL in a folder that is thrown away."""
        with TemporaryDirectory(prefix="standfast-bench-") as name:
            folder = Path(name)
            postgres = Postgres(folder / "postgres", port=free_port())
            await postgres.prepare()
            async with Supervisor(folder / "logs", _ignore) as supervisor:
                await supervisor.start(postgres.service())
                async with AsyncExitStack() as resources:
                    yield cls(folder, supervisor, postgres, resources)

    async def temporal(self, name: str, change: Callable[[Service], Service] = lambda service: service) -> str:
        """Start a Temporal server, as `change` makes it, and return its address."""
        server = TemporalServer(self.folder / name, port=free_port(), ui_port=free_port())
        await self.supervisor.start(change(replace(server.service(), name=name)))
        return server.address

    def supervisor_of(self, name: str) -> Supervisor:
        """Return a supervisor for further processes."""
        return Supervisor(self.folder / "logs" / name, _ignore)

    def pid(self, service: str) -> int:
        """Return the process id of a running service."""
        return next(s.pid for s in self.supervisor.status() if s.service == service and s.pid is not None)


@dataclass(frozen=True)
class Installation:
    """Standfast with the sample shop as its target, in a namespace and in databases of its own."""

    services: Services
    name: str
    settings: Settings
    temporal: Client
    client: Standfast
    owner_url: str
    """Superuser's URL of the shop."""

    @classmethod
    async def create(
        cls,
        services: Services,
        address: str,
        name: str,
        *,
        planner: Mapping[str, Any],
        namespace: str = "default",
        encrypted: bool = True,
        plugins: Sequence[Plugin] = (),
    ) -> "Installation":
        """Create the databases and their content; no worker runs yet."""
        for database in (name, f"{name}_control"):
            await services.postgres.create_database(database)
        owner, control = (services.postgres.url(database) for database in (name, f"{name}_control"))
        await load_shop(owner)
        await migrate_control(control, dict.fromkeys(CONTROL_ROLES, _PASSWORD))
        await migrate_target(owner, TARGET, (TARGET,), dict.fromkeys(Role, _PASSWORD))
        private, public = new_key_pair()

        def url(database: str, user: str) -> str:
            return services.postgres.url(database, user=user, password=_PASSWORD)

        settings = Settings(
            targets={
                TARGET: {"schemas": [TARGET], **{role.value: url(name, role_name(TARGET, role)) for role in Role}}
            },
            control={
                "url": url(f"{name}_control", CONTROL_ROLE),
                "journal": url(f"{name}_control", JOURNAL_ROLE),
            },
            storage={"url": url(f"{name}_control", STORAGE_ROLE)},
            temporal={"address": address, "namespace": namespace, "environment_configuration": False},
            planner=planner,
            review={"signing_key": private, "public_keys": {"default": public}},
            encryption={"file": _key_file(services.folder)} if encrypted else {"enabled": False},
        )
        await _store_constraints(settings)
        databases = await services.resources.enter_async_context(Databases(settings, application="standfast bench"))
        storage = await services.resources.enter_async_context(external_storage(settings, databases))
        temporal = await cluster.connect(settings, storage, plugins=plugins)
        return cls(services, name, settings, temporal, Standfast(temporal, settings), owner)

    def worker(
        self,
        pool: Pool,
        number: int = 1,
        *,
        settings: Settings | None = None,
        module: str = "standfast.cli",
        environment: Mapping[str, str] | None = None,
    ) -> Service:
        """Return a worker process, with the credentials of its pool, as `standfast up` would start it."""
        name = f"{self.name}-{pool}-{number}"
        file = self.services.folder / f"{name}.toml"
        file.write_text(configuration.to_toml(configuration.pool(settings or self.settings, pool)), "utf-8")
        command = (sys.executable, "-P", "-m", module, "--config", str(file), "worker", "--pool", pool.value)
        return program(name, command, ready=readiness.polls(self.temporal, pool), environment=environment)

    @asynccontextmanager
    async def serving(self, *workers: Service) -> AsyncIterator[dict[str, int]]:
        """Keep the workers running; give the process id of each pool's first one."""
        async with self.services.supervisor_of(self.name) as supervisor:
            await supervisor.start(*workers)
            running = {status.service: status.pid for status in supervisor.status()}
            yield {pool.value: pid for pool in Pool for name, pid in running.items() if pid and f"-{pool}" in name}


def namespaces(service: Service, names: Iterable[str]) -> Service:
    """Return a Temporal server with namespaces of these names."""
    return replace(service, argv=(*service.argv, *(f"--namespace={name}" for name in names)))


def program(
    name: str,
    argv: tuple[str, ...],
    *,
    ready: Callable[[int], Awaitable[bool]],
    environment: Mapping[str, str] | None = None,
) -> Service:
    """Return a process that finds our packages and nothing of the user's environment."""
    found = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **(environment or {})}
    return Service(name=name, argv=argv, environment=found, folder=ROOT, ready=ready)


def _key_file(folder: Path) -> Path:
    file = folder / "keys.toml"
    if not file.exists():
        file.write_text(KeyRing.new().to_toml(), "utf-8")
    return file


async def _store_constraints(settings: Settings) -> None:
    constraints = parse_constraints(_CONSTRAINTS.read_text("utf-8"), source="constraints.yaml")
    async with Databases(settings, application="bench") as databases, databases.control() as connection:
        await append(connection, constraints, created_by="bench")


def _ignore(event: Event) -> None:
    del event
