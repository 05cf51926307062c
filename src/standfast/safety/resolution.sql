-- relations --
-- What names of relations mean in this session: the relation, its root if it is a partition, its columns and keys.
SELECT w.name AS written, c.oid IS NOT NULL AS found, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       coalesce(rn.nspname || '.' || r.relname, n.nspname || '.' || c.relname) AS root,
       coalesce((SELECT jsonb_object_agg(a.attname, format_type(a.atttypid, NULL)) FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '{}') AS columns,
       ARRAY(SELECT DISTINCT a.attname::text
             FROM (SELECT unnest(i.indkey::smallint[]) FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique
                   UNION SELECT unnest(k.conkey) FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f'
                  ) AS key(attnum)
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = key.attnum) AS keys
FROM unnest(%(names)s::text[]) AS w(name)
LEFT JOIN pg_class c ON c.oid = to_regclass(w.name)
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_class r ON r.oid = CASE WHEN c.relispartition THEN pg_partition_root(c.oid) END
LEFT JOIN pg_namespace rn ON rn.oid = r.relnamespace

-- views --
-- The tables and columns that views read or pass writes on to, through views of views.
WITH RECURSIVE used(view, relid, attnum) AS (
    SELECT v.oid, d.refobjid, d.refobjsubid
    FROM unnest(%(views)s::text[]) AS w(name)
    JOIN pg_class v ON v.oid = to_regclass(w.name)
    JOIN pg_rewrite rw ON rw.ev_class = v.oid
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = rw.oid AND d.refclassid = 'pg_class'::regclass
                    AND d.refobjid <> v.oid
    UNION
    SELECT used.view, d.refobjid, d.refobjsubid
    FROM used
    JOIN pg_rewrite rw ON rw.ev_class = used.relid
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = rw.oid AND d.refclassid = 'pg_class'::regclass
                    AND d.refobjid <> used.relid
)
SELECT vn.nspname || '.' || v.relname AS view, n.nspname || '.' || c.relname AS table,
       array_remove(array_agg(DISTINCT a.attname::text), NULL) AS columns
FROM used
JOIN pg_class v ON v.oid = used.view
JOIN pg_namespace vn ON vn.oid = v.relnamespace
JOIN pg_class c ON c.oid = used.relid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = used.relid AND a.attnum = used.attnum
GROUP BY 1, 2

-- functions --
-- All functions that a name may mean in this session, whatever their arguments.
SELECT w.schema AS written_schema, w.name AS written_name, n.nspname AS schema, p.provolatile::text AS volatility
FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS w(schema, name)
JOIN pg_proc p ON p.proname = w.name
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = w.schema OR (w.schema IS NULL AND n.nspname = ANY(current_schemas(true)))
