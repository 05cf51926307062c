-- export --
-- Name the snapshot of this transaction, so that the observer sees the rows as they were.
SELECT pg_export_snapshot() AS snapshot,
       current_setting('transaction_isolation') AS isolation, current_setting('track_counts') AS counting

-- next_xid --
-- The first transaction id that this transaction's snapshot doesn't see.
SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next_xid

-- counters --
-- Rows written so far in this transaction: complete for cascades, triggers, rules, functions, partitions and views.
SELECT relid::bigint AS relid, n_tup_ins AS inserted, n_tup_upd AS updated, n_tup_del AS deleted
FROM pg_stat_xact_user_tables
WHERE n_tup_ins + n_tup_upd + n_tup_del > 0

-- tables --
-- Name, root, size and primary key of tables. A partition counts as the table that it is a part of.
SELECT c.oid::bigint AS relid, n.nspname AS schema, c.relname AS name, rn.nspname || '.' || r.relname AS root,
       pg_relation_size(c.oid) AS bytes,
       has_table_privilege(c.oid, 'SELECT') AND NOT row_security_active(c.oid) AS readable,
       coalesce((SELECT array_agg(a.attname::text ORDER BY k.ordinality)
                 FROM pg_index i, unnest(i.indkey::smallint[]) WITH ORDINALITY AS k(attnum, ordinality), pg_attribute a
                 WHERE i.indrelid = c.oid AND i.indisprimary AND a.attrelid = c.oid AND a.attnum = k.attnum),
                '{}') AS key
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

-- visible --
-- Which of these row versions a session still sees.
SELECT ctid::text AS ctid FROM ONLY {table} WHERE ctid = ANY(%(ctids)s::tid[])

-- written --
-- As the changing session: row versions that are newer than the snapshot. Modulo 2^32, as transaction ids wrap.
SELECT ctid::text AS ctid, to_jsonb(t)::text AS image FROM ONLY {table} t
WHERE (xmin::text::bigint - %(next_xid)s %% 4294967296 + 4294967296) %% 4294967296 < 2147483648 LIMIT {limit}

-- cascades --
-- Foreign keys that pass a change on: from the referenced table to the referencing one, partitions as their roots.
SELECT DISTINCT fn.nspname || '.' || f.relname AS parent, cn.nspname || '.' || c.relname AS child
FROM pg_constraint k
JOIN pg_class f ON f.oid = coalesce(pg_partition_root(k.confrelid), k.confrelid)
JOIN pg_namespace fn ON fn.oid = f.relnamespace
JOIN pg_class c ON c.oid = coalesce(pg_partition_root(k.conrelid), k.conrelid)
JOIN pg_namespace cn ON cn.oid = c.relnamespace
WHERE k.contype = 'f' AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))

-- exclusive --
-- Tables that this session has locked against everybody. TRUNCATE leaves no other trace in the counters.
SELECT DISTINCT rn.nspname || '.' || r.relname AS root
FROM pg_locks l
JOIN pg_class c ON c.oid = l.relation AND c.relkind IN ('r', 'p', 'm')
JOIN pg_class r ON r.oid = coalesce(pg_partition_root(c.oid), c.oid)
JOIN pg_namespace rn ON rn.oid = r.relnamespace
WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'

-- share --
-- Lets another transaction begin where the observer's began.
SELECT pg_export_snapshot() AS snapshot
