"""Whatever text comes: no crash, and nothing that wasn't understood runs by itself."""

import asyncio

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from standfast.plan import Operation, Plan
from standfast.report import Verdict
from standfast.safety.check import check
from standfast.safety.grammar.parsing import parse_statement
from standfast.safety.grammar.statement import StatementRefused
from tests.corpus import CONSTRAINTS
from tests.corpus.mutations import mutated_statements
from tests.integration.clinic import Clinic

TEXTS = mutated_statements() | st.text(max_size=200)
PROTECTED = {table.name for table in CONSTRAINTS.tables if table.protected and table.trigger_writes is None}


def understood(text: str) -> bool:
    try:
        parse_statement(text)
    except StatementRefused:
        return False
    return True


def prepared(url: str, text: str) -> bool:
    """Tell whether the server takes the text for one statement."""
    with psycopg.connect(url) as connection:
        try:
            return connection.pgconn.prepare(b"", text.encode()).status == psycopg.pq.ExecStatus.COMMAND_OK
        except UnicodeEncodeError:
            return False


@given(text=TEXTS)
@settings(max_examples=10 * settings().max_examples)
def test_any_text_is_understood_or_refused(text: str) -> None:
    understood(text)


@given(text=TEXTS)
@settings(max_examples=settings().max_examples // 2, suppress_health_check=list(HealthCheck))
def test_what_is_not_understood_never_runs_by_itself(clinic: Clinic, text: str) -> None:
    plan = Plan(operations=(Operation(sql=text),))
    report = asyncio.run(
        check(plan, url=clinic.rehearser, target="clinic", schemas=("public",), constraints=CONSTRAINTS, ticket=None)
    )
    if not understood(text) or not prepared(clinic.rehearser, text):
        assert report.verdict is Verdict.BLOCK
    if PROTECTED & {table for operation in report.operations for table in operation.counts}:
        assert report.verdict is Verdict.BLOCK
