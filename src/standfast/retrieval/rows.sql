-- pin --
-- One snapshot for all reads of a context, and no way to write. The time-outs are for one query.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SET LOCAL statement_timeout = '2s';
SET LOCAL lock_timeout = '1s'

-- moment --
-- When the snapshot was taken.
SELECT transaction_timestamp() AS moment

-- rows --
-- The rows of a table whose key columns have one of the given values.
SELECT {columns} FROM {relation} WHERE ({key}) IN ({values}) ORDER BY {order} LIMIT {limit}

-- shortened --
-- Each row as JSON, its long values cut on the server, with their length as the mark.
SELECT (
    SELECT jsonb_object_agg(
        key,
        CASE
            WHEN length(value #>> '{{}}') > {longest}
                THEN to_jsonb(format('%%s... (%%s characters)', left(value #>> '{{}}', {longest}), length(value #>> '{{}}')))
            ELSE value
        END
    )
    FROM jsonb_each(to_jsonb(r))
) AS "row"
FROM ({rows}) AS r
