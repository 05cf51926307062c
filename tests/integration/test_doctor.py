"""The doctor finds what would make an installation unsafe, or slow to recover, and says what to do."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client

from standfast.doctor import clocks
from standfast.doctor.databases import inspect_control, inspect_storage, inspect_target
from standfast.doctor.examination import examine
from standfast.doctor.temporal import inspect_temporal
from standfast.local.ports import free_port
from standfast.local.postgres import Postgres
from standfast.local.supervisor import Event, Supervisor
from standfast.local.temporal import TemporalServer
from standfast.safety.access import constrained
from standfast.safety.constraints import Constraints, default_constraints, parse_constraints
from standfast.safety.versions import append
from standfast.settings import Control, Settings, Storage, Target, Temporal
from standfast.steps import Pool
from standfast.store.connections import open_connection
from standfast.store.databases import Role
from standfast.store.migrate import migrate_control, migrate_target
from tests.integration.installation import database_name, prepare, serving
from tests.integration.pooler import pooled
from tests.processes import eventually

WRITER, REHEARSER, CONTROL, JOURNAL = "targets.shop.writer", "targets.shop.rehearser", "control.url", "control.journal"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def prepared(postgres: str, temporal_server: str) -> tuple[Settings, str]:
    """Settings for a well prepared installation that nobody serves, and the owner's URL of its target."""
    return await prepare(postgres, temporal_server, f"t{uuid4().hex[:8]}")


@pytest.fixture
def settings(prepared: tuple[Settings, str]) -> Settings:
    return prepared[0]


@pytest.fixture
def owner(prepared: tuple[Settings, str]) -> str:
    return prepared[1]


def ignore(event: Event) -> None:
    del event


def control_owner(settings: Settings, owner: str) -> str:
    assert settings.control.url is not None
    return make_conninfo(owner, dbname=database_name(settings.control.url.get_secret_value()))


@contextmanager
def changed(url: str, change: str, back: str) -> Iterator[None]:
    """Misconfigure a server or a database, and set it right again."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(change.encode())
        try:
            yield
        finally:
            connection.execute(back.encode())


async def wrong(settings: Settings) -> dict[str, str]:
    """Return what the doctor has against the databases."""
    checks = await inspect_control(settings.control)
    for name, target in settings.targets.items():
        checks += await inspect_target(name, target)
    return {check.name: check.message for check in checks if not check.ok}


async def test_databases_that_are_well_are_told_to_be_well(settings: Settings) -> None:
    checks = await inspect_target("shop", settings.target("shop"))
    assert [check.name for check in checks if check.name.endswith(" server")] == [
        f"targets.shop.{role} server" for role in ("reader", "rehearser", "writer")
    ]
    assert await wrong(settings) == {}


@pytest.mark.parametrize(
    ("change", "places", "advice"),
    [
        ("synchronous_commit = off", (WRITER, REHEARSER), "a commit that was acknowledged can be lost in a crash"),
        ("default_transaction_read_only = on", (WRITER, REHEARSER), "nothing can be written; reset it"),
        ("transaction_timeout = '3s'", (WRITER, REHEARSER, "targets.shop.reader"), "is 3 s; set it to 0"),
    ],
)
async def test_settings_of_a_target_that_break_promises(
    settings: Settings, owner: str, change: str, places: tuple[str, ...], advice: str
) -> None:
    database, setting = f"ALTER DATABASE {database_name(owner)}", change.split(" = ", maxsplit=1)[0]
    with changed(owner, f"{database} SET {change}", f"{database} RESET {setting}"):
        found = await wrong(settings)
    assert set(found) == {f"{place} {setting}" for place in places}
    assert all(advice in message for message in found.values())


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
async def test_a_server_that_does_not_survive_a_power_cut(settings: Settings, owner: str, setting: str) -> None:
    with changed(owner, f"ALTER SYSTEM SET {setting} = off", f"ALTER SYSTEM RESET {setting}"):
        with changed(owner, "SELECT pg_reload_conf()", "SELECT 1"):
            found: dict[str, str] = {}
            while not found:  # the server reads its settings in its own time
                found = await wrong(settings)
        assert set(found) == {f"{place} {setting}" for place in (CONTROL, JOURNAL, WRITER, REHEARSER)}
    with psycopg.connect(owner) as connection:
        connection.execute("SELECT pg_reload_conf()")


async def test_a_hot_standby_in_the_place_of_its_primary(home: Path) -> None:
    server = Postgres(home, port=free_port())
    await server.prepare()
    service = server.service()
    service = replace(service, argv=(*service.argv, "-c", "wal_level=replica"))
    async with Supervisor(home / "logs", ignore) as supervisor:
        await supervisor.start(service)
    (home / "data" / "standby.signal").touch()
    async with Supervisor(home / "logs", ignore) as supervisor:
        await supervisor.start(service)
        checks = await inspect_target("shop", Target(writer=SecretStr(server.url())))
    found = {check.name: check.message for check in checks if not check.ok}
    assert found[f"{WRITER} standby"] == "the server is a hot standby, which takes no writes; give the primary's URL"


async def test_too_few_connections_for_one_worker(settings: Settings, owner: str) -> None:
    database = f"ALTER DATABASE {database_name(owner)} CONNECTION LIMIT"
    with changed(owner, f"{database} 7", f"{database} -1"):
        message = (await wrong(settings))[f"{WRITER} room"]
    assert "and one busy process opens 16 or more; raise the connection limit of the database" in message


async def test_a_pooler_that_mixes_sessions(settings: Settings) -> None:
    writer = settings.target("shop").writer
    assert writer is not None
    async with pooled(writer.get_secret_value()) as url:
        checks = await inspect_target("shop", Target(writer=SecretStr(url), schemas=("shop",)))
    (found,) = [check for check in checks if not check.ok]
    assert found.name == f"{WRITER} pooler"
    assert "in transaction mode" in found.message


async def test_the_journal_s_role_is_checked_column_by_column(settings: Settings, owner: str) -> None:
    url = control_owner(settings, owner)
    grant, revoke = "GRANT UPDATE ({0}) ON standfast.model_call TO", "REVOKE UPDATE ({0}) ON standfast.model_call FROM"
    with changed(url, f"{revoke.format('reused')} standfast_journal", f"{grant.format('reused')} standfast_journal"):
        message = (await wrong(settings))[f"{JOURNAL} rights"]
        assert message == "lacks UPDATE on standfast.model_call (reused); run `standfast migrate`"
    with changed(url, f"{grant.format('answer')} standfast_journal", f"{revoke.format('answer')} standfast_journal"):
        message = (await wrong(settings))[f"{JOURNAL} rights"]
        assert message == "may do more than it needs: UPDATE on standfast.model_call (answer); revoke it"


async def test_the_audit_chain_is_appended_to_by_the_control_role_alone(settings: Settings, owner: str) -> None:
    url, function = control_owner(settings, owner), "EXECUTE ON FUNCTION standfast.append_audit"
    with changed(url, f"REVOKE {function} FROM standfast_control", f"GRANT {function} TO standfast_control"):
        message = (await wrong(settings))[f"{CONTROL} rights"]
        assert message == "lacks EXECUTE on standfast.append_audit; run `standfast migrate`"
    with changed(url, f"GRANT {function} TO standfast_journal", f"REVOKE {function} FROM standfast_journal"):
        message = (await wrong(settings))[f"{JOURNAL} rights"]
        assert message == "may do more than it needs: EXECUTE on standfast.append_audit; revoke it"
    with changed(
        url,
        "GRANT UPDATE ON standfast.audit TO standfast_control",
        "REVOKE UPDATE ON standfast.audit FROM standfast_control",
    ):
        message = (await wrong(settings))[f"{CONTROL} rights"]
        assert message == "may do more than it needs: UPDATE on standfast.audit; revoke it"


async def test_who_may_get_in_is_widened_by_nobody_after_the_next_migration(settings: Settings, owner: str) -> None:
    url = control_owner(settings, owner)
    for table in ("session", "login_link"):
        with psycopg.connect(url) as connection:
            connection.execute(f"GRANT UPDATE ON standfast.{table} TO standfast_control".encode())
        assert f"UPDATE on standfast.{table}" in (await wrong(settings))[f"{CONTROL} rights"]
    await migrate_control(url)
    assert await wrong(settings) == {}


# --- roles of a target: what `migrate` made of the constraints, and what has become of it since ---

GUARDED = parse_constraints(
    """
    version: 1
    target: shop
    schemas: [shop]
    statements: {auto: [select, insert, update], approval: [delete]}
    tables: [{name: shop.refunds, protected: true}]
    columns: [{table: shop.orders, name: total, class: secret}]
    """,
    source="test",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(prepared: tuple[Settings, str]) -> AsyncIterator[None]:
    """Roles that fit these constraints, for as long as the tests of them take."""
    _, owner = prepared
    await migrate_target(owner, "shop", ("shop",), accesses=constrained(GUARDED))
    yield
    await migrate_target(owner, "shop", ("shop",))


async def wrong_roles(settings: Settings, constraints: Constraints = GUARDED) -> dict[str, str]:
    """Return what the doctor has against the roles of the target."""
    checks = await inspect_target("shop", settings.target("shop"), constraints)
    return {check.name.removeprefix("targets.shop."): check.message for check in checks if not check.ok}


@pytest.mark.usefixtures("guarded")
async def test_roles_that_fit_the_constraints_are_well(settings: Settings) -> None:
    assert await wrong_roles(settings) == {}


@pytest.mark.parametrize(
    ("change", "back", "found", "message"),
    [
        (
            "GRANT SELECT (total) ON shop.orders TO standfast_shop_reader",
            "REVOKE SELECT (total) ON shop.orders FROM standfast_shop_reader",
            "reader rights",
            "may do more than it needs: SELECT on shop.orders (total); `standfast migrate` takes away",
        ),
        (
            "GRANT INSERT ON shop.refunds TO standfast_shop_rehearser",
            "REVOKE INSERT ON shop.refunds FROM standfast_shop_rehearser",
            "rehearser rights",
            "INSERT on shop.refunds",
        ),
        (
            "GRANT TRUNCATE ON shop.orders TO standfast_shop_writer",
            "REVOKE TRUNCATE ON shop.orders FROM standfast_shop_writer",
            "writer rights",
            "TRUNCATE on shop.orders",
        ),
        (
            "GRANT UPDATE ON SEQUENCE shop.refunds_id_seq TO standfast_shop_writer",
            "REVOKE UPDATE ON SEQUENCE shop.refunds_id_seq FROM standfast_shop_writer",
            "writer role",
            "may set the sequence shop.refunds_id_seq",
        ),
        (
            "ALTER ROLE standfast_shop_reader BYPASSRLS",
            "ALTER ROLE standfast_shop_reader NOBYPASSRLS",
            "reader role",
            "bypasses row security",
        ),
        (
            "ALTER ROLE standfast_shop_writer CREATEROLE",
            "ALTER ROLE standfast_shop_writer NOCREATEROLE",
            "writer role",
            "may create roles",
        ),
        (
            "CREATE TABLE shop.mine (); ALTER TABLE shop.mine OWNER TO standfast_shop_writer",
            "DROP TABLE shop.mine",
            "writer role",
            "owns relation shop.mine",
        ),
        (
            "GRANT CREATE ON SCHEMA shop TO standfast_shop_writer",
            "REVOKE CREATE ON SCHEMA shop FROM standfast_shop_writer",
            "writer role",
            "may create objects in schema shop",
        ),
        (
            "GRANT pg_read_all_data TO standfast_shop_reader",
            "REVOKE pg_read_all_data FROM standfast_shop_reader",
            "reader role",
            "is a member of pg_read_all_data",
        ),
        (
            "REVOKE standfast_shop_observer FROM standfast_shop_writer",
            "GRANT standfast_shop_observer TO standfast_shop_writer",
            "writer rights",
            "lacks membership in standfast_shop_observer; run `standfast migrate`",
        ),
        (
            "GRANT SELECT ON shop.refunds TO standfast_shop_observer",
            "REVOKE SELECT ON shop.refunds FROM standfast_shop_observer",
            "writer rights",
            "SELECT on shop.refunds as standfast_shop_observer",
        ),
        (
            "REVOKE SELECT (status) ON shop.orders FROM standfast_shop_reader",
            "GRANT SELECT (status) ON shop.orders TO standfast_shop_reader",
            "reader rights",
            "lacks SELECT on shop.orders (status); run `standfast migrate`",
        ),
    ],
)
@pytest.mark.usefixtures("guarded")
async def test_rights_of_roles_that_are_not_as_they_were_made(
    prepared: tuple[Settings, str], change: str, back: str, found: str, message: str
) -> None:
    settings, owner = prepared
    with changed(owner, change, back):
        assert message in (await wrong_roles(settings))[found]


@pytest.mark.usefixtures("guarded")
async def test_rights_that_are_older_than_the_constraints_are_named(settings: Settings) -> None:
    closed = parse_constraints(
        "version: 1\ntarget: shop\nschemas: [shop]\ntables: [{name: shop.orders, writes: block}]", source="test"
    )
    found = await wrong_roles(settings, closed)
    assert set(found) == {"reader rights", "rehearser rights", "writer rights"}
    assert "DELETE on shop.orders, INSERT on shop.orders, UPDATE on shop.orders" in found["writer rights"]
    assert found["reader rights"].startswith("lacks ")
    assert found["reader rights"].endswith("; run `standfast migrate`")


@pytest.mark.usefixtures("guarded")
async def test_settings_that_are_not_pinned_any_more(settings: Settings, owner: str) -> None:
    role = f"ALTER ROLE standfast_shop_writer IN DATABASE {database_name(owner)}"
    with changed(owner, f"{role} SET statement_timeout = 0", f"{role} SET statement_timeout = '15s'"):
        found = await wrong_roles(settings)
    assert found == {"writer settings": "sessions begin with statement_timeout = 0, not 15s; run `standfast migrate`"}


@pytest.mark.usefixtures("guarded")
async def test_the_constraints_are_those_of_the_control_database(settings: Settings) -> None:
    assert settings.control.url is not None
    async with await open_connection(settings.control.url.get_secret_value()) as connection:
        await append(connection, GUARDED, created_by="test")
    checks = {check.name: check for check in await examine(settings)}
    assert [checks[f"targets.shop.{role} rights"].ok for role in Role] == [True] * 3
    async with await open_connection(settings.control.url.get_secret_value()) as connection:
        await append(connection, default_constraints("shop", ("shop",)), created_by="test")
    checks = {check.name: check for check in await examine(settings)}
    assert [checks[f"targets.shop.{role} rights"].ok for role in Role] == [False] * 3


async def test_a_journal_alone_is_enough_for_a_worker_of_the_llm_pool(settings: Settings) -> None:
    checks = await inspect_control(Control(journal=settings.control.journal))
    assert checks
    assert all(check.ok and check.name.startswith(JOURNAL) for check in checks)


async def test_the_storage_of_large_payloads_and_how_much_is_kept_there(settings: Settings) -> None:
    checks = await inspect_storage(settings)
    assert checks
    assert all(check.ok and check.name.startswith("storage.url") for check in checks)
    assert checks[-1].message == "keeps 0 large payloads, 0.0 MiB"


async def test_a_storage_that_is_not_set_or_may_do_too_much(settings: Settings) -> None:
    (unset,) = await inspect_storage(Settings(temporal=settings.temporal))
    assert (unset.ok, "large payloads can't be read" in unset.message) == (False, True)
    generous = settings.model_copy(update={"storage": Storage(url=settings.control.url)})
    checks = {check.name: check for check in await inspect_storage(generous)}
    assert "may do more than it needs" in checks["storage.url rights"].message


async def test_clocks_that_differ(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "now", lambda: datetime.now(UTC) - timedelta(seconds=75))
    found = {check.name: check.message for check in await examine(settings) if not check.ok}
    for place in ("temporal", CONTROL, JOURNAL, WRITER):
        assert "its clock is 75 s ahead of this machine's; set both by NTP" in found[f"{place} clock"]


# --- Temporal ----------------------------------------------------------------------------------------------------


async def temporal(settings: Settings) -> dict[str, Any]:
    return {check.name: check for check in await inspect_temporal(settings)}


async def test_a_pool_that_nobody_serves_and_one_without_a_spare(untuned: Client, settings: Settings) -> None:
    there = settings.model_copy(update={"temporal": Temporal(address=untuned.service_client.config.target_host)})
    async with serving(there, Pool.DATABASE):
        checks = await temporal(there)
    assert [checks[f"temporal task queue {pool}"].ok for pool in Pool] == [False, False, False]
    assert "no worker asks for work" in checks["temporal task queue core"].message
    assert "one worker only" in checks["temporal task queue database"].message
    assert checks["temporal task queue database"].message.endswith("start `standfast worker --pool database` once more")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def untuned(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A Temporal server whose timers are as late as they are by default."""
    folder: Path = tmp_path_factory.mktemp("temporal")
    server = TemporalServer(folder, port=free_port(), ui_port=free_port())
    service = server.service()
    argv = tuple(argument for argument in service.argv if "timerProcessorMaxTimeShift" not in argument)
    assert len(argv) == len(service.argv) - 1
    async with Supervisor(folder / "logs", ignore) as supervisor:
        await supervisor.start(replace(service, argv=argv))
        yield await Client.connect(server.address)


async def test_timers_that_fire_late(untuned: Client, settings: Settings, temporal_server: str) -> None:
    there = settings.model_copy(update={"temporal": Temporal(address=untuned.service_client.config.target_host)})
    late = (await temporal(there))["temporal timers"]
    assert not late.ok
    assert 'set history.timerProcessorMaxTimeShift to "20ms"' in late.message
    tuned = await temporal(settings.model_copy(update={"temporal": Temporal(address=temporal_server)}))
    assert tuned["temporal timers"].ok, tuned
    assert tuned["temporal clock"].ok, tuned


async def test_probes_are_ended_and_are_no_tickets(untuned: Client, settings: Settings) -> None:
    there = settings.model_copy(update={"temporal": Temporal(address=untuned.service_client.config.target_host)})
    await temporal(there)
    # The visibility store lags a little behind.
    terminated = 'WorkflowType = "StandfastDoctor" AND ExecutionStatus = "Terminated"'
    await eventually(
        lambda: untuned.count_workflows(terminated), lambda found: found.count > 0 and found.count % 3 == 0
    )
    await eventually(lambda: untuned.count_workflows('ExecutionStatus = "Running"'), lambda found: found.count == 0)
    assert (await untuned.count_workflows('WorkflowType = "Ticket"')).count == 0


async def test_a_namespace_that_forgets_soon_or_is_not_there(untuned: Client, settings: Settings) -> None:
    await untuned.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace="short", workflow_execution_retention_period=Duration(seconds=7200))
    )
    address = untuned.service_client.config.target_host
    for namespace, check, message in (
        ("short", "retention", "what has ended is remembered for 2 hours; the same ticket, sent again later, starts"),
        ("nowhere", "connection", "create it, or set temporal.namespace"),
    ):
        there = settings.model_copy(update={"temporal": Temporal(address=address, namespace=namespace)})
        found = (await temporal(there))[f"temporal {check}"]
        assert (found.ok, message in found.message) == (False, True), found
