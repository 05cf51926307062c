"""Loading the sample shop into a database."""

from psycopg import sql

from standfast.local.shop.data import columns, rows
from standfast.store.connections import Connection, open_connection
from standfast.store.sql import read

_SCHEMA = "shop"


async def load_shop(owner_url: str) -> None:
    """Create the schema `shop` with all its rows, in one transaction; a shop that is there is left alone.

    Raises:
        ServiceUnavailable: the database can't be reached.
    """
    async with await open_connection(owner_url, application="standfast shop") as connection:
        cursor = await connection.execute("SELECT to_regnamespace(%s) IS NOT NULL AS there", (_SCHEMA,))
        found = await cursor.fetchone()
        if found is not None and found["there"]:
            return
        await connection.execute(read(__package__, "schema.sql"))
        shop = rows()
        for table, names in columns().items():
            await _copy(connection, table, names, shop[table])


async def _copy(
    connection: Connection, table: str, names: tuple[str, ...], table_rows: list[tuple[object, ...]]
) -> None:
    name = sql.Identifier(_SCHEMA, table)
    copy = sql.SQL("COPY {} ({}) FROM STDIN").format(name, sql.SQL(", ").join(map(sql.Identifier, names)))
    async with connection.cursor() as cursor, cursor.copy(copy) as stream:
        for row in table_rows:
            await stream.write_row(row)
    if names[0] == "id" and table != "payments":
        # Rows were given their ids: new ones go on after them.
        await connection.execute(
            sql.SQL("SELECT setval(pg_get_serial_sequence({}, 'id'), max(id)) FROM {}").format(
                sql.Literal(f"{_SCHEMA}.{table}"), name
            )
        )
