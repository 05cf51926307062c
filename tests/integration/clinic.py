"""The corpus's database on one server."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg.conninfo import make_conninfo

from standfast.store.databases import Role
from standfast.store.migrate import migrate_target
from standfast.store.roles import role_name
from tests.corpus import SCHEMA
from tests.integration.contents import everything

_PASSWORD = "only-for-tests"


@dataclass(frozen=True)
class Clinic:
    """Where it is."""

    owner: str
    """URL as the superuser."""
    major: int

    @property
    def rehearser(self) -> str:
        """URL as the role that rehearses plans."""
        return make_conninfo(self.owner, user=role_name("clinic", Role.REHEARSER), password=_PASSWORD)


@contextmanager
def opened(postgres: str) -> Iterator[Clinic]:
    """Create the database on the server that `postgres` leads to, and see to it that nothing in it changes."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE clinic")
        major = connection.info.server_version // 10000
    owner = make_conninfo(postgres, dbname="clinic")
    with psycopg.connect(owner) as connection:
        connection.execute(SCHEMA.encode())
    asyncio.run(migrate_target(owner, "clinic", ("public",), dict.fromkeys(Role, _PASSWORD)))
    before = everything(owner)
    yield Clinic(owner=owner, major=major)
    assert everything(owner) == before
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP DATABASE clinic WITH (FORCE)")
