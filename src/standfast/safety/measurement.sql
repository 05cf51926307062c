-- export --
-- Name the snapshot of this transaction, so that the observer sees the rows as they were.
SELECT pg_export_snapshot() AS snapshot,
       current_setting('transaction_isolation') AS isolation, current_setting('track_counts') AS counting

-- state --
-- What this transaction has written so far, by the server's own counters (complete for cascades, triggers, rules,
-- functions, partitions and views), and the locks that it holds: TRUNCATE shows in nothing else, sequences neither.
SELECT
    coalesce(
        (
            SELECT jsonb_agg(jsonb_build_array(relid::bigint, n_tup_ins, n_tup_upd, n_tup_del))
            FROM pg_stat_xact_user_tables WHERE n_tup_ins + n_tup_upd + n_tup_del > 0
        ),
        '[]'
    ) AS counters,
    coalesce(
        (
            SELECT jsonb_agg(jsonb_build_array(rn.nspname || '.' || r.relname, r.relkind, l.mode))
            FROM pg_locks l
            JOIN pg_class c ON c.oid = l.relation AND c.relkind IN ('r', 'p', 'm', 'S')
            JOIN pg_class r ON r.oid = coalesce(pg_partition_root(c.oid), c.oid)
            JOIN pg_namespace rn ON rn.oid = r.relnamespace AND rn.nspname <> 'pg_catalog'
            WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.mode <> 'AccessShareLock'
        ),
        '[]'
    ) AS locks

-- cascades --
-- Foreign keys that pass a change on: from the referenced table to the referencing one, partitions as their roots.
SELECT DISTINCT
    fn.nspname || '.' || f.relname AS parent, cn.nspname || '.' || c.relname AS child,
    ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS p(attnum, place)
          JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = p.attnum ORDER BY p.place) AS parent_columns,
    ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS p(attnum, place)
          JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = p.attnum ORDER BY p.place) AS child_columns
FROM pg_constraint k
JOIN pg_class f ON f.oid = coalesce(pg_partition_root(k.confrelid), k.confrelid)
JOIN pg_namespace fn ON fn.oid = f.relnamespace
JOIN pg_class c ON c.oid = coalesce(pg_partition_root(k.conrelid), k.conrelid)
JOIN pg_namespace cn ON cn.oid = c.relnamespace
WHERE k.contype = 'f' AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))

-- references --
-- Which of these tables refer to which others of them.
SELECT DISTINCT fn.nspname || '.' || f.relname AS parent, cn.nspname || '.' || c.relname AS child
FROM pg_constraint k
JOIN pg_class f ON f.oid = coalesce(pg_partition_root(k.confrelid), k.confrelid)
JOIN pg_namespace fn ON fn.oid = f.relnamespace
JOIN pg_class c ON c.oid = coalesce(pg_partition_root(k.conrelid), k.conrelid)
JOIN pg_namespace cn ON cn.oid = c.relnamespace
WHERE k.contype = 'f' AND f.oid <> c.oid
  AND fn.nspname || '.' || f.relname = ANY(%(tables)s) AND cn.nspname || '.' || c.relname = ANY(%(tables)s)

-- share --
-- Lets another transaction begin where the observer's began.
SELECT pg_export_snapshot() AS snapshot
