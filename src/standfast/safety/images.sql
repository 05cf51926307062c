-- next_xid --
-- The first transaction id that this transaction's snapshot doesn't see.
SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next_xid

-- tables --
-- Name, root, size, primary key and settable columns of tables. A partition counts as the table that it is a part of.
SELECT c.oid::bigint AS relid, n.nspname AS schema, c.relname AS name, rn.nspname AS root_schema, r.relname AS root_name,
       pg_relation_size(c.oid) AS bytes,
       has_table_privilege(c.oid, 'SELECT') AND NOT row_security_active(c.oid) AS readable,
       coalesce((SELECT array_agg(a.attname::text ORDER BY k.ordinality)
                 FROM pg_index i, unnest(i.indkey::smallint[]) WITH ORDINALITY AS k(attnum, ordinality), pg_attribute a
                 WHERE i.indrelid = c.oid AND i.indisprimary AND a.attrelid = c.oid AND a.attnum = k.attnum),
                '{}') AS key,
       coalesce((SELECT jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
                                                     'category', t.typcategory,
                                                     'is_json', coalesce(nullif(t.typbasetype, 0), t.oid)
                                                                IN ('json'::regtype, 'jsonb'::regtype))
                                  ORDER BY a.attnum)
                 FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                 WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
                '[]') AS columns
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class r ON r.oid = coalesce(pg_partition_root(c.oid), c.oid)
JOIN pg_namespace rn ON rn.oid = r.relnamespace
WHERE c.oid = ANY(%(relids)s::oid[])

-- outdated_lately --
-- As the observer: rows that a transaction newer than the snapshot has marked as outdated or locked.
SELECT ctid::text AS ctid, to_jsonb(t)::text AS image FROM ONLY {table} t
WHERE xmax <> '0'::xid
  AND (xmax::text::bigint - %(next_xid)s %% 4294967296 + 4294967296) %% 4294967296 < 2147483648 LIMIT {limit}

-- outdated --
-- As the observer: rows that some transaction has marked as outdated or locked.
SELECT ctid::text AS ctid, to_jsonb(t)::text AS image FROM ONLY {table} t WHERE xmax <> '0'::xid LIMIT {limit}

-- written --
-- As the changing session: row versions that are newer than the snapshot (modulo 2^32, as transaction ids wrap), and
-- which of the outdated ones it still sees.
(SELECT ctid::text AS ctid, to_jsonb(t)::text AS image FROM ONLY {table} t
 WHERE (xmin::text::bigint - %(next_xid)s %% 4294967296 + 4294967296) %% 4294967296 < 2147483648 LIMIT {limit})
UNION ALL
SELECT ctid::text, NULL FROM ONLY {table} WHERE ctid = ANY(%(outdated)s::tid[])

-- visible --
-- As the observer: which of the new row versions are not that new, since their ids have wrapped.
SELECT ctid::text AS ctid FROM ONLY {table} WHERE ctid = ANY(%(ctids)s::tid[])
