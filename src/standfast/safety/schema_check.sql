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

-- missing_schemas --
-- Schemas that are named but don't exist.
SELECT name FROM unnest(%(schemas)s::text[]) AS name WHERE NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = name)
