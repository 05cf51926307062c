"""The corpus: no plan gets a better verdict than it should, on any major version, and nothing harmless is stopped."""

from typing import Any

import pytest

from standfast.errors import InvalidInput
from standfast.plan import Operation, Plan
from standfast.report import SafetyReport, Verdict
from standfast.safety.check import check
from tests.corpus import CONSTRAINTS, Entry, entries, parameters
from tests.integration.clinic import Clinic
from tests.older_postgres import NEWEST

BY_GRAMMAR = ("text_and_protocol", "transaction_and_session", "ddl")
"""Kinds that our own parser tells, whatever the server."""
newest = pytest.mark.parametrize("any_postgres", [NEWEST], ids=[f"postgres{NEWEST}"], indirect=True)


async def judged(url: str, entry: Entry) -> SafetyReport:
    return await check(entry.plan, url=url, target="clinic", schemas=("public",), constraints=CONSTRAINTS, ticket=None)


def against(report: SafetyReport) -> list[tuple[str, str]]:
    return [(f.rule, f.message) for f in report.all_findings if f.verdict is not Verdict.AUTO]


async def check_entry(clinic: Clinic, entry: Entry) -> None:
    report = await judged(clinic.rehearser, entry)
    if clinic.major < entry.oldest:  # what a server is too old to understand never runs
        assert report.verdict is Verdict.BLOCK
        return
    assert report.verdict is Verdict.worst([report.verdict, entry.expect]), against(report)
    if entry.expect is Verdict.AUTO:
        assert against(report) == []
    if entry.rule is not None:
        assert entry.rule in {rule for rule, _ in against(report)}


@parameters("dml_scope", "objects", "columns", "functions", "plan", "benign")
async def test_no_plan_gets_a_better_verdict_than_it_should(clinic: Clinic, entry: Entry) -> None:
    await check_entry(clinic, entry)


@newest
@parameters(*BY_GRAMMAR)
async def test_no_statement_is_taken_for_a_better_one(clinic: Clinic, entry: Entry) -> None:
    await check_entry(clinic, entry)


@newest
@parameters("transaction_and_session", "functions", "ddl")
async def test_a_superuser_gets_no_better_verdict_either(clinic: Clinic, entry: Entry) -> None:
    report = await judged(clinic.owner, entry)
    assert report.verdict is Verdict.worst([report.verdict, entry.expect]), against(report)


@pytest.mark.parametrize("operation", [{"sql": "SELECT '\ud800'"}, {"sql": "SELECT $1", "params": ["\ud800"]}])
async def test_text_that_is_not_unicode_is_no_plan(database: str, operation: dict[str, Any]) -> None:
    plan = Plan(operations=(Operation.model_validate(operation),))
    with pytest.raises(InvalidInput, match="surrogate"):
        await check(plan, url=database, target="clinic", schemas=("public",), constraints=None, ticket=None)


def test_the_corpus_is_large_and_names_each_plan_once() -> None:
    names = [entry.name for entry in entries()]
    assert len(names) > 500
    assert len(names) == len(set(names))
