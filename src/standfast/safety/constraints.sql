-- columns --
-- Tables and views of the schemas with their columns, whether or not the role may read them.
SELECT n.nspname || '.' || c.relname AS table, rn.nspname || '.' || r.relname AS root, array_agg(a.attname::text) AS columns
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class r ON r.oid = coalesce(pg_partition_root(c.oid), c.oid)
JOIN pg_namespace rn ON rn.oid = r.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = ANY(%(schemas)s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
GROUP BY 1, 2

-- latest --
-- The newest constraints of a target.
SELECT version, document FROM standfast.constraints WHERE target = %(target)s ORDER BY version DESC LIMIT 1

-- lock --
-- One new version at a time.
SELECT pg_advisory_xact_lock(hashtext('standfast.constraints'), hashtext(%(target)s))

-- append --
-- A new version; older ones stay.
INSERT INTO standfast.constraints (target, version, document, created_by, note)
SELECT %(target)s, coalesce(max(version), 0) + 1, %(document)s, %(created_by)s, %(note)s
FROM standfast.constraints WHERE target = %(target)s
RETURNING version

-- versions --
-- All versions, newest first.
SELECT target, version, created_at, created_by, note FROM standfast.constraints ORDER BY target, version DESC

-- missing_schemas --
-- Schemas that are named but don't exist.
SELECT name FROM unnest(%(schemas)s::text[]) AS name WHERE NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = name)
