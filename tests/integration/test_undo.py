"""Undo: proved where the plan was rehearsed, made of the rows that were really changed, refused if they moved on."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from temporalio.testing import ActivityEnvironment

from standfast.decision import DecisionVerdict, Refusal
from standfast.errors import DecisionRefused
from standfast.execution.activity import Executor
from standfast.outcome import State
from standfast.plan import Operation, Plan
from standfast.report import SafetyReport, Verdict
from standfast.safety.constraints import ColumnConstraint, parse_constraints
from standfast.safety.protocol import run_operation
from standfast.safety.validation import Circumstances, assess
from standfast.settings import Settings
from standfast.steps import ExecuteRequest, Recalled, RecallRequest
from standfast.store.connections import Connection
from standfast.store.databases import Databases, Role
from standfast.store.migrate import migrate_target
from standfast.store.roles import role_name
from standfast.view import TicketView
from tests.integration.installation import PASSWORD, Installation, installed, with_user

CONSTRAINTS = parse_constraints(
    """
    version: 1
    target: clinic
    schemas: [clinic]
    tables_default: auto
    statements: {auto: [select, insert, update, delete, merge], approval: [add_column]}
    tables:
      - {name: clinic.log, protected: true, trigger_writes: allowed}
    """,
    source="test",
)
SCHEMA = """
CREATE SCHEMA clinic;
CREATE TYPE clinic.mood AS ENUM ('calm', 'cross');
CREATE TYPE clinic.place AS (city text, street text);
CREATE DOMAIN clinic.code AS text CHECK (VALUE ~ '^[a-z]+$');
CREATE TABLE clinic.wards (code clinic.code PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE clinic.patients (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ward clinic.code REFERENCES clinic.wards ON UPDATE CASCADE,
    email text UNIQUE, mood clinic.mood, tags text[], grid int[][], extra jsonb, raw json, weight numeric,
    big bigint, photo bytea, born timestamptz, stay daterange, twice int GENERATED ALWAYS AS (id * 2) STORED,
    "Odd ""x"" name" text
);
CREATE TABLE clinic.visits (
    id int PRIMARY KEY, patient_id int REFERENCES clinic.patients ON DELETE CASCADE,
    changed_at timestamptz DEFAULT now(), note text
);
CREATE TABLE clinic.bills (
    visit_id int REFERENCES clinic.visits ON DELETE CASCADE, line int, amount numeric(10,2),
    PRIMARY KEY (visit_id, line)
);
CREATE TABLE clinic.letters (id int PRIMARY KEY, visit_id int REFERENCES clinic.visits ON DELETE SET NULL);
CREATE TABLE clinic.totals (id int PRIMARY KEY, visits int NOT NULL);
CREATE TABLE clinic.log (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text);
CREATE TABLE clinic.places (id int PRIMARY KEY, at clinic.place, others clinic.place[]);
CREATE TABLE clinic.loose (what text);
CREATE TABLE clinic.stays (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE clinic.stays_1 PARTITION OF clinic.stays FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE clinic.stays_2 PARTITION OF clinic.stays FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE clinic.versions (id int PRIMARY KEY, text text, version int NOT NULL DEFAULT 1);

CREATE FUNCTION clinic.log() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO clinic.log (what) VALUES (TG_OP); RETURN NULL; END $$;
CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON clinic.patients FOR EACH ROW EXECUTE FUNCTION clinic.log();
CREATE FUNCTION clinic.touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.changed_at = clock_timestamp(); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE UPDATE ON clinic.visits FOR EACH ROW EXECUTE FUNCTION clinic.touch();
CREATE FUNCTION clinic.count() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE clinic.totals SET visits = (SELECT count(*) FROM clinic.visits) WHERE id = 1; RETURN NULL; END $$;
CREATE TRIGGER count AFTER INSERT OR DELETE ON clinic.visits FOR EACH STATEMENT EXECUTE FUNCTION clinic.count();
CREATE FUNCTION clinic.next_version() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.version = OLD.version + 1; RETURN NEW; END $$;
CREATE TRIGGER next_version BEFORE UPDATE ON clinic.versions FOR EACH ROW EXECUTE FUNCTION clinic.next_version();

INSERT INTO clinic.wards VALUES ('a', 'Ward A'), ('b', 'Ward B');
INSERT INTO clinic.patients (ward, email, mood, tags, grid, extra, raw, weight, big, photo, born, stay,
                             "Odd ""x"" name")
SELECT 'a', 'p' || n || '@example.com', 'calm', '{"a,b",NULL,"c\\"d"}', '{{1,2},{3,NULL}}',
       '{"n": 0.10000000000000000001, "deep": [1, {"x": null}], "s": "é"}', '{"b":1,  "a":2}', 70.50,
       9007199254740993, '\\x00ff', '2000-01-01 12:00+02', '[2026-01-01,2026-01-05)', 'o''clock'
FROM generate_series(1, 4) n;
INSERT INTO clinic.totals VALUES (1, 0);
INSERT INTO clinic.visits (id, patient_id, note) SELECT n, (n + 1) / 2, 'n' || n FROM generate_series(1, 8) n;
INSERT INTO clinic.bills SELECT n, line, n * 10 + line FROM generate_series(1, 8) n, generate_series(1, 2) line;
INSERT INTO clinic.letters SELECT n, n FROM generate_series(1, 8) n;
INSERT INTO clinic.places VALUES (1, ('Paris', 'Rue 1'), NULL), (2, NULL, ARRAY[('Rome', NULL)::clinic.place]);
INSERT INTO clinic.loose VALUES ('a');
INSERT INTO clinic.stays SELECT n, date '2026-01-10' + n FROM generate_series(1, 3) n;
INSERT INTO clinic.versions VALUES (1, 'a');
"""
TABLES = ("wards", "patients", "visits", "bills", "letters", "totals", "places", "stays", "versions")


@dataclass(frozen=True)
class Clinic:
    """A target, and what happens to its rows."""

    owner_url: str
    databases: Databases

    async def report(self, the_plan: Plan, *, hidden: str | None = None) -> SafetyReport:
        """Rehearse as the rehearser role; `hidden` is a column of patients that is personal."""
        columns = [{"table": "clinic.patients", "name": hidden, "class": "pii"}] if hidden else []
        hiding = tuple(map(ColumnConstraint.model_validate, columns))
        constraints = CONSTRAINTS.model_copy(update={"columns": hiding})

        @asynccontextmanager
        async def twins() -> AsyncIterator[tuple[Connection, Connection]]:
            async with (
                self.databases.target("clinic", Role.REHEARSER) as change,
                self.databases.observer("clinic", Role.REHEARSER) as observer,
            ):
                yield change, observer

        circumstances = Circumstances(target="clinic", constraints=constraints, ground=None, now=datetime.now(UTC))
        return (await assess(the_plan, circumstances, twins)).report

    async def execute(self, the_plan: Plan, report: SafetyReport) -> Recalled:
        """Execute the plan, and return what the ledger says about its undo."""
        assert report.undo is not None
        request = ExecuteRequest(
            workflow_id="ticket/clinic/T-1",
            target="clinic",
            plan=the_plan,
            plan_digest=report.plan_digest,
            fingerprint=report.fingerprint,
            volatile=report.volatile,
            not_after=datetime.now(UTC) + timedelta(minutes=5),
            undo=report.undo,
            undo_proved=report.undo_proved,
        )
        executor = Executor(self.databases)
        await ActivityEnvironment().run(executor.execute, request)
        asked = RecallRequest(target="clinic", undo_of=request.workflow_id)
        return await ActivityEnvironment().run(executor.recall, asked)

    async def run(self, operations: Sequence[Operation]) -> None:
        """Run operations as the writer does."""
        async with self.databases.target("clinic", Role.WRITER) as connection:
            for index, operation in enumerate(operations):
                await run_operation(connection, operation, index)

    def owner(self, statement: str) -> None:
        """Change something as the tables' owner."""
        with psycopg.connect(self.owner_url) as connection:
            connection.execute(statement.encode())

    def content(self) -> dict[str, list[Any]]:
        """Return all rows, without the times that a trigger sets."""
        with psycopg.connect(self.owner_url) as connection:
            query = "SELECT (to_jsonb(t) - 'changed_at')::text FROM clinic.{} t ORDER BY 1"
            return {table: connection.execute(query.format(table).encode()).fetchall() for table in TABLES}


@pytest_asyncio.fixture
async def clinic(database: str) -> AsyncIterator[Clinic]:
    with psycopg.connect(database) as owner:
        owner.execute(SCHEMA.encode())
    await migrate_target(database, "clinic", ("clinic",), dict.fromkeys(Role, PASSWORD))
    urls = {role.value: with_user(database, role_name("clinic", role)) for role in Role}
    settings = Settings(targets={"clinic": urls | {"schemas": ["clinic"]}})
    async with Databases(settings, application="standfast-test") as databases:
        yield Clinic(database, databases)


def plan(*statements: str) -> Plan:
    return Plan(operations=tuple(Operation(sql=text) for text in statements))


REVERSIBLE = {
    "an update": ["UPDATE visits SET note = 'x' WHERE id = 1"],
    "different old values": ["UPDATE visits SET note = note || '!' WHERE id < 4"],
    "a deletion with three levels of cascades": ["DELETE FROM patients WHERE id = 1"],
    "a deletion of several rows": ["DELETE FROM patients WHERE id < 3"],
    "an insertion with an identity": ["INSERT INTO patients (ward, email) VALUES ('b', 'new@example.com')"],
    "values of all types": [
        """UPDATE patients SET mood = 'cross', tags = '{}', grid = NULL, extra = '[1]', raw = '{}', weight = 0.1,
           big = 1, photo = '', born = 'infinity', stay = 'empty', "Odd ""x"" name" = NULL WHERE id IN (1, 2)"""
    ],
    "values that differ, of all types": [
        "UPDATE patients SET weight = weight + id, tags = tags || id::text WHERE id > 0"
    ],
    "a key that cascades": ["UPDATE wards SET code = 'c' WHERE code = 'a'"],
    "a new row in the place of an old one": [
        "DELETE FROM patients WHERE id = 4",
        "INSERT INTO patients (email, mood) VALUES ('p4@example.com', 'cross')",
    ],
    "a row changed several times": [
        "UPDATE visits SET note = 'x' WHERE id = 8",
        "UPDATE visits SET note = 'y' WHERE id = 8",
        "DELETE FROM visits WHERE id = 8",
    ],
    "a row that comes and goes": ["INSERT INTO visits (id) VALUES (99)", "DELETE FROM visits WHERE id = 99"],
    "a summary that a trigger keeps": ["INSERT INTO visits (id, patient_id) VALUES (50, 1), (51, 2)"],
    "a row that moves to another partition": ["UPDATE stays SET day = '2026-02-10' WHERE id = 1"],
    "a row that refers to a new one": [
        "INSERT INTO wards VALUES ('z', 'Ward Z')",
        "UPDATE patients SET ward = 'z' WHERE id = 2",
    ],
    "a composite key": [
        "UPDATE bills SET amount = amount + 1 WHERE visit_id < 3",
        "DELETE FROM bills WHERE visit_id = 5",
    ],
    "a merge": [
        """MERGE INTO letters l USING visits v ON l.id = v.id WHEN MATCHED AND v.id < 3 THEN DELETE
           WHEN MATCHED AND v.id = 3 THEN UPDATE SET visit_id = 4"""
    ],
    "a part of a composite value": ["UPDATE places SET at.city = 'Rome' WHERE id = 1"],
    "a row with a composite value": ["DELETE FROM places WHERE id = 1"],
    "nothing": ["UPDATE visits SET note = 'x' WHERE id = 12345"],
}


@pytest.mark.parametrize("statements", REVERSIBLE.values(), ids=REVERSIBLE.keys())
async def test_what_is_proved_restores_every_row_of_the_executed_plan(clinic: Clinic, statements: list[str]) -> None:
    report = await clinic.report(plan(*statements))
    assert report.verdict is not Verdict.BLOCK, report.all_findings
    assert report.undo_proved
    before = clinic.content()
    recalled = await clinic.execute(plan(*statements), report)
    await clinic.run(recalled.operations or ())
    assert clinic.content() == before


IRREVERSIBLE = {
    "no key": (["INSERT INTO loose VALUES ('b')"], "could not be measured"),
    "a value without a text": (
        ["DELETE FROM places WHERE id = 2"],
        "a value of type place[] can't be given as a parameter",
    ),
    "a trigger that counts up": (["UPDATE versions SET text = 'b' WHERE id = 1"], "clinic.versions.version"),
}


@pytest.mark.parametrize(("statements", "reason"), IRREVERSIBLE.values(), ids=IRREVERSIBLE.keys())
async def test_what_can_not_be_taken_back_needs_a_person_and_says_why(
    clinic: Clinic, statements: list[str], reason: str
) -> None:
    report = await clinic.report(plan(*statements))
    assert report.verdict is Verdict.APPROVAL
    assert (report.undo_proved, report.undo and report.undo.operations) == (False, ())
    (finding,) = [finding for finding in report.findings if finding.rule == "undo.unproved"]
    assert reason in finding.message


async def test_what_the_constraints_leave_no_right_to_take_back_is_said_and_runs(clinic: Clinic) -> None:
    for role in (Role.REHEARSER, Role.WRITER):
        clinic.owner(f"REVOKE DELETE ON clinic.versions FROM {role_name('clinic', role)}")
    report = await clinic.report(plan("INSERT INTO versions (id, text) VALUES (2, 'b')"))
    assert (report.verdict, report.undo_proved) == (Verdict.AUTO, False)
    assert [finding.rule for finding in report.findings] == ["undo.unproved"]


async def test_more_than_rows_can_not_be_taken_back(clinic: Clinic) -> None:
    clinic.owner(f"ALTER TABLE clinic.visits OWNER TO {role_name('clinic', Role.REHEARSER)}")
    report = await clinic.report(plan("ALTER TABLE visits ADD COLUMN extra text"))
    assert report.undo is not None
    assert (report.undo_proved, report.undo.remarks) == (False, ("add_column changes more than rows",))


async def test_an_undo_says_what_stays_different(clinic: Clinic) -> None:
    report = await clinic.report(
        plan("INSERT INTO patients (mood) VALUES ('calm')", "UPDATE visits SET note = 'x' WHERE id = 1")
    )
    assert report.undo is not None
    assert report.undo.remarks == (
        "clinic.log is left to its triggers, which write there again",
        "clinic.visits.changed_at gets a new value",
        "values of clinic.log_id_seq stay used up",
        "values of clinic.patients_id_seq stay used up",
    )


async def test_sensitive_values_are_masked_where_people_read(clinic: Clinic) -> None:
    report = await clinic.report(plan("DELETE FROM patients WHERE id = 4"), hidden="email")
    assert report.undo is not None
    operation, *_ = report.undo.operations
    assert "p4@example.com" not in report.model_dump_json()
    assert operation.params[:4] == ("4", "a", "•••", "calm")


async def test_too_many_rows_for_a_plan_are_said_to_be_irreversible(clinic: Clinic) -> None:
    clinic.owner("INSERT INTO clinic.visits (id, note) SELECT n, repeat('x', 1000) FROM generate_series(100, 399) n")
    report = await clinic.report(plan("DELETE FROM visits WHERE id > 99"))
    assert report.undo is not None
    assert (report.undo_proved, report.undo.remarks) == (False, ("the rows are more than fit into a plan (240 KiB)",))


# --- undo as a ticket of its own -------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(postgres: str, temporal_server: str) -> AsyncIterator[Installation]:
    async with installed(postgres, temporal_server) as installation:
        yield installation


def set_status(order: int, status: str = "please") -> dict[str, Any]:
    sql = "UPDATE shop.orders SET status = $1 WHERE id = $2"
    return {"operations": [{"sql": sql, "params": [status, order], "expect_rows": 1}]}


async def done(installation: Installation, order: int) -> str:
    workflow_id = await installation.submit(set_status(order), subject={"order_id": order})
    assert (await installation.client.wait(workflow_id)).state is State.DONE
    assert installation.query("SELECT status FROM shop.orders WHERE id = %s", order) == [("please",)]
    return workflow_id


async def undo_waiting(installation: Installation, workflow_id: str) -> TicketView:
    submitted = await installation.client.undo(workflow_id, by="ana@example.com")
    assert submitted.started
    return await installation.until_waiting(submitted.workflow_id)


@pytest.mark.asyncio(loop_scope="module")
async def test_an_undo_waits_for_a_person_and_then_restores_the_rows(installation: Installation) -> None:
    workflow_id = await done(installation, 1001)
    view = await undo_waiting(installation, workflow_id)
    assert view.report is not None
    assert [finding.rule for finding in view.report.findings] == ["undo.asked"]
    assert view.report.operations[0].rows[0].after == {"status": "paid"}
    assert not (await installation.client.undo(workflow_id, by="ana@example.com")).started  # the same one

    with pytest.raises(DecisionRefused) as own:
        await installation.decide(view, DecisionVerdict.APPROVE, by="ana@example.com")
    assert own.value.reason == Refusal.OWN_TICKET
    with pytest.raises(DecisionRefused) as revised:
        await installation.decide(view, DecisionVerdict.REVISE, comment="otherwise")
    assert revised.value.reason == Refusal.NOT_REVISABLE

    await installation.decide(view, DecisionVerdict.APPROVE)
    assert (await installation.client.wait(view.workflow_id)).state is State.DONE
    assert installation.query("SELECT status FROM shop.orders WHERE id = 1001") == [("paid",)]
    with pytest.raises(DecisionRefused, match="was taken back by"):
        await installation.client.undo(workflow_id, by="ana@example.com")


@pytest.mark.asyncio(loop_scope="module")
async def test_an_undo_can_be_taken_back(installation: Installation) -> None:
    view = await undo_waiting(installation, await done(installation, 1002))
    await installation.decide(view, DecisionVerdict.APPROVE)
    await installation.client.wait(view.workflow_id)
    again = await undo_waiting(installation, view.workflow_id)
    await installation.decide(again, DecisionVerdict.APPROVE)
    await installation.client.wait(again.workflow_id)
    assert installation.query("SELECT status FROM shop.orders WHERE id = 1002") == [("please",)]


@pytest.mark.asyncio(loop_scope="module")
async def test_an_undo_is_refused_if_rows_moved_on(installation: Installation) -> None:
    workflow_id = await done(installation, 1003)
    installation.execute("UPDATE shop.orders SET total = total + 1 WHERE id = 1003")
    submitted = await installation.client.undo(workflow_id, by="ana@example.com")
    outcome = await installation.client.wait(submitted.workflow_id)
    assert outcome.state is State.BLOCKED
    assert outcome.reason.startswith("undo.moved")
    assert installation.query("SELECT status FROM shop.orders WHERE id = 1003") == [("please",)]


@pytest.mark.asyncio(loop_scope="module")
async def test_rows_that_move_on_while_an_undo_waits_stay_as_they_are(installation: Installation) -> None:
    view = await undo_waiting(installation, await done(installation, 1004))
    installation.execute("UPDATE shop.orders SET total = total + 1 WHERE id = 1004")
    await installation.decide(view, DecisionVerdict.APPROVE)
    outcome = await installation.client.wait(view.workflow_id)
    assert (outcome.state, outcome.reason.partition(":")[0]) == (State.BLOCKED, "undo.moved")
    assert installation.query("SELECT status FROM shop.orders WHERE id = 1004") == [("please",)]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_rejected_undo_can_be_asked_for_again(installation: Installation) -> None:
    workflow_id = await done(installation, 1005)
    view = await undo_waiting(installation, workflow_id)
    await installation.decide(view, DecisionVerdict.REJECT, comment="not now")
    await installation.client.wait(view.workflow_id)
    assert (await undo_waiting(installation, workflow_id)).workflow_id == f"{workflow_id}-undo2"


@pytest.mark.asyncio(loop_scope="module")
async def test_what_changed_nothing_has_no_undo(installation: Installation) -> None:
    workflow_id = await installation.submit({"operations": []})
    await installation.client.wait(workflow_id)
    with pytest.raises(DecisionRefused, match="has changed nothing that could be taken back"):
        await installation.client.undo(workflow_id, by="ana@example.com")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_ticket_that_claims_to_undo_another_one_gets_no_plan_of_its_own(installation: Installation) -> None:
    workflow_id = await installation.submit(set_status(1006), undo_of="ticket/shop/never-was")
    outcome = await installation.client.wait(workflow_id)
    assert outcome.state is State.FAILED
    assert "has executed nothing on shop that could be taken back" in outcome.reason
    assert installation.query("SELECT status FROM shop.orders WHERE id = 1006") == [("paid",)]
