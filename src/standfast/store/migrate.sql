-- lock --
-- One migration at a time in a database; others wait until this transaction ends.
SELECT pg_advisory_xact_lock(hashtext('standfast.migrate'))

-- prepare --
-- The schema and the table that remember what was applied.
CREATE SCHEMA IF NOT EXISTS standfast;
CREATE TABLE IF NOT EXISTS standfast.migration (
    kind text NOT NULL,
    number integer NOT NULL CHECK (number > 0),
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, number)
);

-- prepared --
-- Whether a migration ever ran here, answered to any role.
SELECT EXISTS (
    SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'standfast' AND c.relname = 'migration'
) AS prepared

-- applied --
-- What was applied, oldest first.
SELECT number, name, checksum FROM standfast.migration WHERE kind = %(kind)s ORDER BY number

-- record --
-- Remember an applied migration.
INSERT INTO standfast.migration (kind, number, name, checksum)
VALUES (%(kind)s, %(number)s, %(name)s, %(checksum)s)
