"""For any statements on any schema with cascades and triggers: what was measured is what happens."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from psycopg import sql

from standfast.local.postgres import Postgres
from standfast.plan import Operation, Plan
from standfast.safety.constraints import Limits
from standfast.safety.effect import Effect
from standfast.safety.protocol import OperationRefused, run_operation
from standfast.safety.rehearsal import Rehearsal, rehearse
from standfast.store.connections import open_connection

DATABASE = "properties"
ROWS = 6
ACTIONS = ("CASCADE", "SET NULL", "SET DEFAULT", "NO ACTION")
TRIGGERS = """
CREATE SCHEMA s;
CREATE TABLE s.audit (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text);
CREATE FUNCTION s.remember() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO s.audit (what) VALUES (concat_ws(' ', TG_TABLE_NAME, TG_OP, to_jsonb(OLD), to_jsonb(NEW)));
    RETURN NULL;
END $$;
CREATE FUNCTION s.adjust() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.v := NEW.v * 2 + 1; RETURN NEW; END $$;
"""
INITIAL = f"SELECT n, n, 'w', greatest(n / 2, 1) FROM generate_series(1, {ROWS}) n"  # noqa: S608 - all ours
Key = tuple[str, str]
Rows = dict[Key, dict[str, Any]]


@dataclass(frozen=True)
class Table:
    """A table `t0`, `t1`...: an id, a value, a text, and a reference to a table that was created before, or itself."""

    number: int
    parent: int | None
    on_delete: str
    on_update: str
    deferred: bool
    partitioned: bool
    audited: bool
    adjusted: bool

    @property
    def ddl(self) -> str:
        name = f"s.t{self.number}"
        reference = ""
        if self.parent is not None:
            late = " DEFERRABLE INITIALLY DEFERRED" if self.deferred else ""
            reference = f" REFERENCES s.t{self.parent} (id) ON DELETE {self.on_delete} ON UPDATE {self.on_update}{late}"
        parts = " PARTITION BY HASH (id)" if self.partitioned else ""
        lines = [
            f"CREATE TABLE {name} (id integer PRIMARY KEY, v bigint, w text, p integer DEFAULT 1{reference}){parts}"
        ]
        if self.partitioned:
            lines += [
                f"CREATE TABLE {name}_{n} PARTITION OF {name} FOR VALUES WITH (MODULUS 2, REMAINDER {n})"
                for n in range(2)
            ]
        lines.append(f"INSERT INTO {name} {INITIAL}")
        if self.audited:
            event = f"AFTER INSERT OR UPDATE OR DELETE ON {name}"
            lines.append(f"CREATE TRIGGER remember {event} FOR EACH ROW EXECUTE FUNCTION s.remember()")
        if self.adjusted:
            event = f"BEFORE INSERT OR UPDATE OF v ON {name}"
            lines.append(f"CREATE TRIGGER adjust {event} FOR EACH ROW EXECUTE FUNCTION s.adjust()")
        return ";\n".join(lines)


@st.composite
def tables(draw: st.DrawFn) -> list[Table]:
    return [
        Table(
            number=number,
            parent=draw(st.none() | st.integers(0, number)),
            on_delete=draw(st.sampled_from(ACTIONS)),
            on_update=draw(st.sampled_from(ACTIONS)),
            deferred=draw(st.booleans()),
            partitioned=draw(st.booleans()),
            audited=draw(st.booleans()),
            adjusted=draw(st.booleans()),
        )
        for number in range(draw(st.integers(2, 5)))
    ]


ID = st.integers(1, ROWS + 2)
STATEMENTS = (
    "UPDATE s.{t} SET v = v + 1 WHERE id <= {a}",
    "UPDATE s.{t} SET w = w || '!' WHERE p = {a}",
    "UPDATE s.{t} SET w = w WHERE id = {a}",
    "UPDATE s.{t} SET id = id + 100 WHERE id = {a}",
    "UPDATE s.{t} SET id = id + 100, v = 7 WHERE id >= {a}",
    "UPDATE s.{t} SET p = {b} WHERE id = {a}",
    "UPDATE s.{t} SET p = NULL WHERE id BETWEEN {a} AND {b}",
    "UPDATE s.{t} x SET v = y.v FROM s.{u} y WHERE x.p = y.id AND y.id <= {a}",
    "DELETE FROM s.{t} WHERE id = {a}",
    "DELETE FROM s.{t} WHERE id % 2 = {a} % 2",
    "DELETE FROM s.{t} x USING s.{u} y WHERE x.id = y.p AND y.id = {b}",
    "INSERT INTO s.{t} (id, v, w) VALUES ({a} + 200, {b}, 'new')",
    "INSERT INTO s.{t} SELECT id + 300, v, w, p FROM s.{u} WHERE id <= {b}",
    "INSERT INTO s.{t} VALUES ({a}, 9, 'w', 1), ({b} + 50, 9, 'w', {a}) ON CONFLICT (id) DO UPDATE SET v = excluded.v",
    "WITH gone AS (DELETE FROM s.{t} WHERE id = {a} RETURNING v) UPDATE s.{u} SET v = 0 FROM gone WHERE id = gone.v",
    "WITH k AS (UPDATE s.{t} SET v = 1 WHERE id = {a} RETURNING w) INSERT INTO s.{u} SELECT {b} + 400, 1, w FROM k",
)


@st.composite
def statements(draw: st.DrawFn, schema: list[Table]) -> list[tuple[str, frozenset[str]]]:
    """Draw statements, each with the tables that it names."""
    tables = st.sampled_from([f"t{table.number}" for table in schema])
    drawn = []
    for _ in range(draw(st.integers(1, 3))):
        t, u = draw(tables), draw(tables)
        text = draw(st.sampled_from(STATEMENTS)).format(t=t, u=u, a=draw(ID), b=draw(ID))
        drawn.append((text, frozenset({f"s.{t}", f"s.{u}"})))
    return drawn


@pytest.fixture(scope="session")
def playground(any_postgres: Postgres) -> Iterator[str]:
    """URL of a database whose schema `s` each example creates anew."""
    with psycopg.connect(any_postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {DATABASE}".encode())
    yield any_postgres.url(DATABASE)
    with psycopg.connect(any_postgres.url(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)".encode())


def contents(connection: psycopg.Connection[Any], schema: list[Table]) -> Rows:
    """Return all rows by table and key; those of the audit table by what they say, as their ids are used up."""
    rows: Rows = {}
    for table in schema:
        query = sql.SQL("SELECT to_jsonb(t) FROM {} t").format(sql.Identifier("s", f"t{table.number}"))
        rows |= {(f"s.t{table.number}", str(row["id"])): row for (row,) in connection.execute(query).fetchall()}
    audit = connection.execute("SELECT what, count(*) FROM s.audit GROUP BY what").fetchall()
    return rows | {("s.audit", what): {"rows": count} for what, count in audit}


def without_audit(rows: Rows) -> Rows:
    return {key: row for key, row in rows.items() if key[0] != "s.audit"}


def replayed(rows: Rows, effect: Effect) -> Rows:
    """Return the rows after all measured changes were made to them."""
    rows = {key: dict(row) for key, row in rows.items()}
    for operation in effect.operations:
        assert operation.unmeasured == ()
        for change in operation.rows:
            if change.table == "s.audit":
                assert (change.before, change.after is None) == (None, False)
                said = rows.setdefault(("s.audit", str((change.after or {})["what"])), {"rows": 0})
                said["rows"] += 1
                continue
            key = (change.table, str(change.key["id"]))
            present = rows.pop(key, None)
            assert change.before is None or change.before.items() <= (present or {}).items()
            assert change.before is not None or present is None
            if change.after is not None:
                rows[key] = (present or {}) | change.after
    return rows


async def rehearsed(url: str, plan: Plan, targets: list[frozenset[str]]) -> Rehearsal | None:
    """Return what the plan would do; None if the server refuses an operation."""
    async with (
        await open_connection(url, schemas=("s",)) as change,
        await open_connection(url, schemas=("s",)) as observer,
    ):
        try:
            return await rehearse(plan, change, observer, limits=Limits(), targets=targets, kept=frozenset({"s.audit"}))
        except OperationRefused:
            return None


async def executed(url: str, operations: Sequence[Operation]) -> bool:
    """Run operations in a transaction of their own, and tell whether the server took them all."""
    async with await open_connection(url, schemas=("s",)) as connection:
        try:
            for index, operation in enumerate(operations):
                await run_operation(connection, operation, index)
            await connection.commit()
        except (OperationRefused, psycopg.IntegrityError):
            return False
    return True


@given(data=st.data())
@settings(max_examples=settings().max_examples // 2, suppress_health_check=list(HealthCheck))
def test_what_was_measured_is_what_happens_and_what_was_proved_takes_it_back(
    playground: str, data: st.DataObject
) -> None:
    schema = data.draw(tables())
    drawn = data.draw(statements(schema))
    plan = Plan(operations=tuple(Operation(sql=text) for text, _ in drawn))
    with psycopg.connect(playground, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS s CASCADE")
        for ddl in (TRIGGERS, *(table.ddl for table in schema)):
            note(ddl)
            connection.execute(ddl.encode())
        before = contents(connection, schema)
        rehearsal = asyncio.run(rehearsed(playground, plan, [named for _, named in drawn]))
        assert contents(connection, schema) == before
        assert asyncio.run(executed(playground, plan.operations)) is (rehearsal is not None)
        if rehearsal is None:
            return
        after = contents(connection, schema)
        assert replayed(before, rehearsal.effect) == after
        if rehearsal.undo is not None and rehearsal.undo_proved:
            assert asyncio.run(executed(playground, rehearsal.undo.operations))
            assert without_audit(contents(connection, schema)) == without_audit(before)
