-- relations --
-- What names of relations mean in this session: the relation, its root if it is a partition, its columns and keys.
SELECT w.schema AS written_schema, w.name AS written_name, c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name,
       c.relkind::text AS kind,
       coalesce(rn.nspname || '.' || r.relname, n.nspname || '.' || c.relname) AS root,
       coalesce((SELECT jsonb_object_agg(a.attname, format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL))
                 FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '{}') AS columns,
       ARRAY(WITH RECURSIVE up(relid) AS (
                 SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = c.oid AND NOT c.relispartition
                 UNION SELECT i.inhparent FROM up JOIN pg_inherits i ON i.inhrelid = up.relid
             )
             SELECT un.nspname || '.' || u.relname FROM up
             JOIN pg_class u ON u.oid = up.relid JOIN pg_namespace un ON un.oid = u.relnamespace) AS ancestors,
       CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END AS definition,
       ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attidentity = 'a') AS identities,
       ARRAY(SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey)
             WHERE i.indrelid = c.oid AND i.indisprimary) AS primary_key,
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

-- view_functions --
-- Functions of the target's own that views call, by operators, too, and through views of views.
WITH RECURSIVE used(view, relid) AS (
    SELECT v.oid, v.oid FROM unnest(%(views)s::oid[]) AS v(oid)
    UNION
    SELECT used.view, d.refobjid
    FROM used
    JOIN pg_rewrite rw ON rw.ev_class = used.relid
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = rw.oid AND d.refclassid = 'pg_class'::regclass
                    AND d.refobjid <> used.relid
)
SELECT used.view::bigint AS view, array_agg(DISTINCT n.nspname || '.' || p.proname) AS runs
FROM used
JOIN pg_rewrite rw ON rw.ev_class = used.relid
JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = rw.oid
LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
JOIN pg_proc p ON p.oid = CASE WHEN d.refclassid = 'pg_proc'::regclass THEN d.refobjid ELSE o.oprcode END
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname <> 'pg_catalog'
  AND NOT EXISTS (SELECT FROM pg_depend e
                  WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')
GROUP BY 1

-- types --
-- Types whose values are made or checked by functions of the target's own: by casts, by domains, in parts of them.
WITH RECURSIVE made(written_schema, written_name, typid) AS (
    SELECT w.schema, w.name, t.oid
    FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS w(schema, name)
    JOIN pg_type t ON t.typname = w.name
    JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname = ANY(CASE WHEN w.schema IS NULL THEN current_schemas(true) ELSE ARRAY[w.schema::name] END)
      AND n.nspname <> 'pg_catalog'
    UNION
    SELECT made.written_schema, made.written_name, part.typid
    FROM made
    JOIN pg_type t ON t.oid = made.typid
    CROSS JOIN LATERAL (
        SELECT t.typelem UNION ALL SELECT t.typbasetype
        UNION ALL SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = nullif(t.typrelid, 0) AND a.attnum > 0
    ) AS part(typid)
    WHERE part.typid <> 0
)
SELECT made.written_schema, made.written_name, array_agg(DISTINCT n.nspname || '.' || p.proname) AS runs
FROM made
CROSS JOIN LATERAL (
    SELECT k.castfunc FROM pg_cast k WHERE k.casttarget = made.typid
    UNION ALL SELECT t.typinput FROM pg_type t WHERE t.oid = made.typid
    UNION ALL SELECT d.refobjid
    FROM pg_constraint c
    JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_proc'::regclass
    WHERE c.contypid = made.typid
) AS called(funcid)
JOIN pg_proc p ON p.oid = called.funcid
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname <> 'pg_catalog'
  AND NOT EXISTS (SELECT FROM pg_depend e
                  WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')
GROUP BY 1, 2

-- functions --
-- All functions that a name may mean in this session, whatever their arguments.
SELECT w.schema AS written_schema, w.name AS written_name, n.nspname AS schema, p.provolatile::text AS volatility,
       p.pronargs > 0 AND p.pronargs - p.pronargdefaults <= 1 AS takes_one
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

-- triggers --
-- What triggers run when a statement inserts, updates or deletes rows of these tables, of deletions that cascade, too.
WITH RECURSIVE reached(name, oid, statement, event) AS (
    SELECT n.nspname || '.' || c.relname, part.relid::oid, s.event, s.event
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid)) AS part(relid)
    CROSS JOIN unnest(ARRAY['insert', 'update', 'delete']) AS s(event)
    WHERE n.nspname || '.' || c.relname = ANY(%(tables)s)
    UNION
    SELECT reached.name, k.conrelid, reached.statement, CASE k.confdeltype WHEN 'c' THEN 'delete' ELSE 'update' END
    FROM reached JOIN pg_constraint k ON k.confrelid = reached.oid
    WHERE reached.event = 'delete' AND k.contype = 'f' AND k.confdeltype IN ('c', 'n', 'd')
)
SELECT reached.name AS table, n.nspname || '.' || p.proname AS function, p.prosrc AS source, l.lanpltrusted AS trusted,
       array_agg(DISTINCT reached.statement) AS events
FROM reached
JOIN pg_trigger t ON t.tgrelid = reached.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D'
                 AND t.tgtype & CASE reached.event WHEN 'insert' THEN 4 WHEN 'delete' THEN 8 ELSE 16 END > 0
JOIN pg_proc p ON p.oid = t.tgfoid
JOIN pg_language l ON l.oid = p.prolang AND l.lanname NOT IN ('internal', 'c')
JOIN pg_namespace n ON n.oid = p.pronamespace
GROUP BY 1, 2, 3, 4
