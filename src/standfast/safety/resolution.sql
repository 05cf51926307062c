-- relations --
-- What names of relations mean in this session: the relation, its root if it is a partition, its columns and keys.
SELECT w.schema AS written_schema, w.name AS written_name, c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name,
       c.relkind::text AS kind,
       coalesce(rn.nspname || '.' || r.relname, n.nspname || '.' || c.relname) AS root,
       coalesce((SELECT jsonb_object_agg(a.attname, format_type(a.atttypid, NULL)) FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '{}') AS columns,
       CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END AS definition,
       ARRAY(SELECT DISTINCT a.attname::text
             FROM (SELECT unnest(i.indkey::smallint[]) FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique
                   UNION SELECT unnest(k.conkey) FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f'
                  ) AS key(attnum)
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = key.attnum) AS keys
FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS w(schema, name)
JOIN LATERAL (
    -- not to_regclass: it fails for schemas that this role may not use
    SELECT f.* FROM pg_class f JOIN pg_namespace fn ON fn.oid = f.relnamespace
    WHERE f.relname = w.name AND fn.nspname = ANY(CASE WHEN w.schema IS NULL THEN current_schemas(true) ELSE ARRAY[w.schema::name] END)
    ORDER BY array_position(current_schemas(true), fn.nspname) LIMIT 1
) c ON true
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_class r ON r.oid = CASE WHEN c.relispartition THEN pg_partition_root(c.oid) END
LEFT JOIN pg_namespace rn ON rn.oid = r.relnamespace

-- views --
-- The tables and columns that views read or pass writes on to, through views of views.
WITH RECURSIVE used(view, relid, attnum) AS (
    SELECT v.oid, d.refobjid, d.refobjsubid
    FROM unnest(%(views)s::oid[]) AS v(oid)
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
SELECT used.view::bigint AS view, coalesce(rn.nspname || '.' || r.relname, n.nspname || '.' || c.relname) AS table,
       CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END AS definition,
       array_remove(array_agg(DISTINCT a.attname::text), NULL) AS columns
FROM used
JOIN pg_class c ON c.oid = used.relid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_class r ON r.oid = CASE WHEN c.relispartition THEN pg_partition_root(c.oid) END
LEFT JOIN pg_namespace rn ON rn.oid = r.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = used.relid AND a.attnum = used.attnum
GROUP BY 1, 2, 3

-- functions --
-- All functions that a name may mean in this session, whatever their arguments.
SELECT w.schema AS written_schema, w.name AS written_name, n.nspname AS schema, p.provolatile::text AS volatility
FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS w(schema, name)
JOIN pg_proc p ON p.proname = w.name
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = w.schema OR (w.schema IS NULL AND n.nspname = ANY(current_schemas(true)))

-- operators --
-- Operators that may run a function of the target's own; those of extensions are as good as built-in ones.
SELECT DISTINCT w.schema AS written_schema, w.name AS written_name
FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS w(schema, name)
JOIN pg_operator o ON o.oprname = w.name
JOIN pg_namespace n ON n.oid = o.oprnamespace
WHERE n.nspname = ANY(CASE WHEN w.schema IS NULL THEN current_schemas(true) ELSE ARRAY[w.schema::name] END) AND n.nspname <> 'pg_catalog'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_operator'::regclass AND d.objid = o.oid AND d.deptype = 'e')
