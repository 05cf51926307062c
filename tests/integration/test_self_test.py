"""`check --self-test` tells what stops hostile statements on one's own schema, and whether the role alone would."""

import json
from pathlib import Path

import psycopg
import pytest
import tomli_w
from psycopg.conninfo import make_conninfo

from standfast.cli.program import program
from standfast.errors import InvalidInput
from standfast.safety.access import constrained
from standfast.safety.check import check_locks
from standfast.safety.constraints import parse_constraints
from standfast.safety.self_test import PARSER, PRIVILEGE, Attempt
from standfast.store.databases import Role
from standfast.store.migrate import migrate_target
from standfast.store.roles import role_name
from tests.integration.test_roles import CONSTRAINTS, PASSWORD, SCHEMA, TARGET

HELD_TO = parse_constraints(CONSTRAINTS, source="test")
# What every role may do, however few rights it has: only parser and rules stand in the way.
NO_MATTER_OF_RIGHTS = {
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT",
    "SET",
    "set_config",
    "DO",
    "LISTEN",
    "notification",
    "session lock",
    "sleep",
    "end of other sessions",
    "other sessions' queries",
    "DELETE without WHERE",
    "UPDATE without WHERE",
    "condition that always holds",
    "EXPLAIN ANALYZE",
    "PREPARE",
    "LOCK",
}


@pytest.fixture
async def vault(database: str) -> str:
    """URL of a target whose roles fit its constraints, as its owner."""
    with psycopg.connect(database) as connection:
        connection.execute(SCHEMA.encode())
    await migrate_target(database, TARGET, ("shop",), dict.fromkeys(Role, PASSWORD), accesses=constrained(HELD_TO))
    return database


def rehearser(owner: str) -> str:
    return make_conninfo(owner, user=role_name(TARGET, Role.REHEARSER), password=PASSWORD)


async def locks(url: str) -> list[Attempt]:
    return await check_locks(url=url, target=TARGET, schemas=("shop",), constraints=HELD_TO)


async def test_in_a_good_set_up_everything_is_stopped_and_most_of_it_twice(vault: str) -> None:
    attempts = await locks(rehearser(vault))
    assert len({attempt.kind for attempt in attempts}) >= 40
    assert [attempt for attempt in attempts if attempt.stopped_by is None] == []
    assert {attempt.kind for attempt in attempts if not attempt.stopped_by_role} <= NO_MATTER_OF_RIGHTS
    assert {"secret column", "row as a whole", "server file", "our ledger"} <= {
        attempt.kind for attempt in attempts if attempt.stopped_by_role
    }
    layers = {attempt.kind: attempt.stopped_by for attempt in attempts}
    assert layers["second statement"] == PARSER
    assert layers["secret column"] == "rule column.sensitive"
    assert layers["COMMIT"] == "rule statement.kind"


async def test_every_secret_column_and_every_protected_table_is_tried(vault: str) -> None:
    statements = {attempt.sql for attempt in await locks(rehearser(vault))}
    assert {
        'SELECT "tax_id" FROM "shop"."customers"',
        'SELECT "token" FROM "shop"."events"',
        'INSERT INTO "shop"."staff" DEFAULT VALUES',
        'INSERT INTO "shop"."audit" DEFAULT VALUES',
    } <= statements


async def test_with_a_superuser_in_the_rehearser_s_place_the_second_lock_is_open(vault: str) -> None:
    attempts = await locks(vault)
    assert [attempt for attempt in attempts if attempt.stopped_by is None] == []
    open_ = {attempt.kind for attempt in attempts if not attempt.stopped_by_role}
    assert {"secret column", "TRUNCATE", "server file", "program on the server", "ALTER SYSTEM", "new table"} <= open_


@pytest.fixture
def no_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away all rules, as if each had a mistake."""
    monkeypatch.setattr("standfast.safety.validation.RULES", ())


@pytest.mark.usefixtures("no_rules")
async def test_where_no_rule_helps_the_role_does(vault: str) -> None:
    attempts = await locks(rehearser(vault))
    layers = {attempt.kind: attempt.stopped_by for attempt in attempts}
    for kind in ("secret column", "row as JSON", "INSERT", "server file", "program on the server", "our ledger"):
        assert layers[kind] == PRIVILEGE, kind
    assert layers["second statement"] == PARSER
    open_ = {attempt.kind for attempt in attempts if attempt.stopped_by is None}
    assert open_ <= NO_MATTER_OF_RIGHTS | {"statistics"}  # which hide the values of columns that a role may not read


async def test_nothing_is_changed_and_nothing_is_left_behind(vault: str) -> None:
    def state() -> list[object]:
        with psycopg.connect(vault) as connection:
            return [
                connection.execute("SELECT * FROM shop.customers ORDER BY id").fetchall(),
                connection.execute("SELECT * FROM shop.notes ORDER BY id").fetchall(),
                connection.execute("SELECT last_value FROM shop.notes_id_seq").fetchall(),
                connection.execute("SELECT oid, relname, relacl FROM pg_class ORDER BY oid").fetchall(),
                connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchall(),
                connection.execute("SELECT rolname, rolsuper FROM pg_roles ORDER BY 1").fetchall(),
            ]

    before = state()
    await locks(vault)
    assert state() == before


def run(*arguments: str) -> int:
    return int(program.main([*arguments], standalone_mode=False) or 0)


@pytest.fixture
def settings(vault: str, tmp_path: Path) -> str:
    """A settings file that names the target; its constraints are in the file beside it."""
    (tmp_path / "constraints.yaml").write_text(CONSTRAINTS)
    target = {"rehearser": rehearser(vault), "schemas": ["shop"]}
    file = tmp_path / "standfast.toml"
    file.write_text(tomli_w.dumps({"targets": {TARGET: target}}))
    return str(file)


@pytest.fixture
def held_to(settings: str) -> str:
    return str(Path(settings).with_name("constraints.yaml"))


def test_the_command_prints_both_locks_of_each_statement(
    settings: str, held_to: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--config", settings, "check", "--self-test", "--target", TARGET, "--constraints", held_to) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "kind statement stopped by role alone" in lines
    assert 'secret column SELECT "tax_id" FROM "shop"."customers" rule column.sensitive stopped' in lines
    assert "COMMIT COMMIT rule statement.kind open" in lines
    assert "hostile statements are stopped; the role alone would stop" in lines[-1]


def test_machines_get_a_document_and_need_no_settings(
    vault: str, held_to: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--json", "check", "--self-test", "--database", vault, "--constraints", held_to) == 0
    attempts = json.loads(capsys.readouterr().out)
    assert {"kind", "sql", "stopped_by", "verdict", "message", "stopped_by_role"} == set(attempts[0])
    assert (attempts[0]["stopped_by"], attempts[0]["stopped_by_role"]) == ("rule column.sensitive", False)


@pytest.mark.usefixtures("no_rules")
def test_a_statement_that_nothing_stops_is_an_exit_code_of_1(
    vault: str, held_to: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("check", "--self-test", "--database", vault, "--constraints", held_to) == 1
    assert 'SELECT "tax_id" FROM "shop"."customers" NOT STOPPED open' in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "arguments", [("check",), ("check", "plan.json", "--self-test"), ("check", "--self-test", "--ticket", "t.json")]
)
def test_a_plan_or_a_self_test(arguments: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match="give either a PLAN, with or without --ticket, or --self-test"):
        run(*arguments)
