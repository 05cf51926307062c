"""Everything that a database holds, to tell whether something was changed."""

from typing import Any, LiteralString

import psycopg
from psycopg import sql


def everything(url: str) -> dict[str, Any]:
    """Return what the database holds: rows of all tables, relations, functions, roles and settings; no sequences."""
    catalogs: dict[str, LiteralString] = {
        "relations": "SELECT oid, relname, relkind, relfilenode, relowner, relacl FROM pg_class WHERE relkind <> 'S'",
        "functions": "SELECT oid, proname, prosrc, proacl FROM pg_proc",
        "roles": "SELECT oid, rolname, rolsuper, rolcanlogin FROM pg_roles",
        "settings": "SELECT setdatabase, setrole, setconfig FROM pg_db_role_setting",
        "comments": "SELECT objoid, classoid, description FROM pg_description",
        "large objects": "SELECT oid FROM pg_largeobject_metadata",
        "prepared": "SELECT gid FROM pg_prepared_xacts",
        "locks": "SELECT classid, objid FROM pg_locks WHERE locktype = 'advisory'",
    }
    digest = sql.SQL("SELECT count(*), md5(coalesce(string_agg(t::text, chr(10) ORDER BY t::text), '')) FROM {} t")
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.relkind = 'r' AND n.nspname IN ('shop', 'standfast', 'public')"
        ).fetchall()
        state: dict[str, Any] = {
            f"{schema}.{name}": connection.execute(digest.format(sql.Identifier(schema, name))).fetchone()
            for schema, name in tables
        }
        state |= {
            what: connection.execute(
                sql.SQL("SELECT count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM ({}) t").format(
                    sql.SQL(query)
                )
            ).fetchone()
            for what, query in catalogs.items()
        }
    return state
