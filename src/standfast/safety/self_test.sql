-- bounds --
-- For this transaction: looking at rights must not wait behind anybody.
SELECT set_config('statement_timeout', '2s', true), set_config('lock_timeout', '1s', true)

-- sequence --
-- Any sequence of the schemas.
SELECT n.nspname AS schema, c.relname AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(%(schemas)s) AND c.relkind = 'S' ORDER BY 1, 2 LIMIT 1

-- owner --
-- Who owns a table.
SELECT pg_get_userbyid(c.relowner) AS owner
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(name)s
