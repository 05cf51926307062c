"""kill -9 of a whole worker pool, or a worker that freezes, in the middle of a ticket: it ends right, once, unaided."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.rows import dict_row
from temporalio.client import Client

from tests.acceptance.installation import Installation, until

ENDS = ("done", "rejected", "blocked", "expired", "failed", "cancelled")


@contextmanager
def model_held(installation: Installation) -> Iterator[None]:
    """Keep the model from answering."""
    pid = until(lambda: installation.pid("model-server"))
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def row_held(installation: Installation, customer: int) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """Keep a customer's row locked, so that whoever executes has to wait for it."""
    with psycopg.connect(installation.owner_url, row_factory=dict_row) as connection:
        connection.execute("SELECT FROM shop.customers WHERE id = %s FOR UPDATE", [customer])
        yield connection


def end(installation: Installation, pool: str, how: signal.Signals = signal.SIGKILL) -> None:
    """End all workers of a pool, and wait until others are at work in their place."""
    until(lambda: all(map(installation.pid, workers(pool))))
    pids = {worker: installation.pid(worker) or 0 for worker in workers(pool)}
    for pid in pids.values():
        os.kill(pid, how)
    until(lambda: all(installation.pid(worker) not in (None, pid) for worker, pid in pids.items()))


def workers(pool: str) -> tuple[str, str]:
    return f"worker-{pool}-1", f"worker-{pool}-2"


@contextmanager
def frozen(installation: Installation, ticket: str) -> Iterator[None]:
    """Freeze the worker that works on the ticket at this moment."""
    pid = until(lambda: asyncio.run(worker_of(installation, ticket)))
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def worker_of(installation: Installation, ticket: str) -> int | None:
    """Return the process id of the worker that has the ticket's activity in hand."""
    client = await Client.connect(installation.setting("temporal", "address"))
    described = await client.get_workflow_handle(ticket).describe()
    identities = [activity.last_worker_identity for activity in described.raw_description.pending_activities]
    return next((int(identity.partition("@")[0]) for identity in identities if identity), None)


def someone_waits(connection: psycopg.Connection[dict[str, Any]]) -> bool:
    """Tell whether an execution waits for the row that `connection` holds."""
    query = "SELECT FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"
    return connection.execute(query).fetchone() is not None


def unlock(installation: Installation, customer: int) -> str:
    return installation.submit(
        id=f"KILL-{customer}",
        body=f"Customer {customer} is locked out after too many attempts, please unlock the account.",
        subject={"customer_id": customer},
    )


def move(installation: Installation, customer: int) -> str:
    """Submit a ticket that needs a person: it changes an address."""
    return installation.submit(
        id=f"KILL-{customer}",
        body=f"Customer {customer} has a new address, please set the email to moved{customer}@example.com",
        subject={"customer_id": customer},
    )


def approve(installation: Installation, ticket: str) -> None:
    digest = installation.view(ticket)["report"]["plan_digest"]
    answer = installation.run("approve", ticket, "--digest", digest)
    assert answer.exit_code == 0, answer


def assert_unlocked_once(installation: Installation, ticket: str, customer: int) -> None:
    assert_done_once(installation, ticket, customer)
    query = "SELECT locked, failed_logins FROM shop.customers WHERE id = %s"
    assert row(installation, query, customer) == {"locked": False, "failed_logins": 0}


def assert_moved_once(installation: Installation, ticket: str, customer: int) -> None:
    assert_done_once(installation, ticket, customer)
    query = "SELECT email FROM shop.customers WHERE id = %s"
    assert row(installation, query, customer) == {"email": f"moved{customer}@example.com"}


def assert_done_once(installation: Installation, ticket: str, customer: int) -> None:
    until(lambda: installation.state(ticket) in ENDS)
    view = installation.view(ticket)
    assert view["state"] == "done", view["outcome"]
    digest = row(
        installation, "SELECT array_agg(plan_digest) AS plans FROM standfast.ledger WHERE workflow_id = %s", ticket
    )
    assert digest == {"plans": [view["report"]["plan_digest"]]}
    query = "SELECT count(*) AS times FROM shop.customers_audit WHERE customer_id = %s"
    assert row(installation, query, customer) == {"times": 1}  # a trigger of the shop counts, too


def row(installation: Installation, query: LiteralString, parameter: object) -> dict[str, Any] | None:
    with psycopg.connect(installation.owner_url, row_factory=dict_row) as connection:
        return connection.execute(query, [parameter]).fetchone()


@pytest.mark.parametrize(("pool", "customer"), [("core", 13), ("llm", 38), ("database", 63)])
def test_killed_while_the_model_thinks(installation: Installation, pool: str, customer: int) -> None:
    with model_held(installation):
        ticket = unlock(installation, customer)
        until(lambda: installation.state(ticket) == "planning")
        end(installation, pool)
    assert_unlocked_once(installation, ticket, customer)


@pytest.mark.parametrize(("pool", "customer"), [("core", 101)])
def test_killed_while_it_waits_for_a_person(installation: Installation, pool: str, customer: int) -> None:
    ticket = move(installation, customer)
    until(lambda: installation.state(ticket) == "waiting")
    end(installation, pool)
    approve(installation, ticket)
    assert_moved_once(installation, ticket, customer)


@pytest.mark.parametrize(("pool", "customer"), [("core", 111), ("llm", 112), ("database", 113)])
def test_killed_in_the_middle_of_the_execution(installation: Installation, pool: str, customer: int) -> None:
    ticket = move(installation, customer)
    until(lambda: installation.state(ticket) == "waiting")
    with row_held(installation, customer) as connection:
        approve(installation, ticket)
        until(lambda: someone_waits(connection))
        end(installation, pool)
    assert_moved_once(installation, ticket, customer)


def test_workers_that_are_asked_to_stop_hand_over_without_a_time_out(installation: Installation) -> None:
    ticket = move(installation, 115)
    until(lambda: installation.state(ticket) == "waiting")
    end(installation, "core", signal.SIGTERM)
    approve(installation, ticket)
    assert_moved_once(installation, ticket, 115)
    history = installation.run("--json", "history", ticket).json
    assert [entry for entry in history if entry["step"] == "recovery"] == []


def test_frozen_in_the_middle_of_the_execution(installation: Installation) -> None:
    ticket = move(installation, 114)
    until(lambda: installation.state(ticket) == "waiting")
    with row_held(installation, 114) as connection:
        approve(installation, ticket)
        until(lambda: someone_waits(connection))
        with frozen(installation, ticket):
            connection.rollback()
            assert_moved_once(installation, ticket, 114)  # by the other worker, while this one can't
    assert_moved_once(installation, ticket, 114)
