-- begin --
-- One snapshot for plan and measurement.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ

-- bounds --
-- How long it may hold others up, and whose it is, so that another attempt can end it.
SELECT set_config('statement_timeout', '15s', true), set_config('lock_timeout', '3s', true),
    set_config('application_name', %(session)s, true)

-- overtake --
-- Let no older attempt execute the plan from now on. Waits for the end of one that is at it.
INSERT INTO standfast.fence AS f (workflow_id, plan_digest, execution, attempt)
VALUES (%(workflow_id)s, %(plan_digest)s, %(execution)s, %(attempt)s)
ON CONFLICT (workflow_id, plan_digest) DO UPDATE SET execution = excluded.execution, attempt = excluded.attempt
WHERE (f.execution, f.attempt) < (excluded.execution, excluded.attempt)

-- claim --
-- The right to execute a plan, until the transaction ends: its lock on the fence keeps every other attempt waiting.
-- Returns the time, or no row if a newer attempt has overtaken this one, or if the plan was executed.
WITH newest AS (
    INSERT INTO standfast.fence AS f (workflow_id, plan_digest, execution, attempt)
    VALUES (%(workflow_id)s, %(plan_digest)s, %(execution)s, %(attempt)s)
    ON CONFLICT (workflow_id, plan_digest) DO UPDATE SET execution = excluded.execution, attempt = excluded.attempt
    WHERE (f.execution, f.attempt) <= (excluded.execution, excluded.attempt)
        AND NOT EXISTS (
            SELECT FROM standfast.ledger WHERE workflow_id = %(workflow_id)s AND plan_digest = %(plan_digest)s
        )
    RETURNING attempt
)
INSERT INTO standfast.ledger (workflow_id, plan_digest, target, statements, fingerprint, approved_by, attempt)
SELECT %(workflow_id)s, %(plan_digest)s, %(target)s, %(statements)s, %(fingerprint)s, %(approved_by)s, attempt
FROM newest
ON CONFLICT DO NOTHING
RETURNING clock_timestamp() AS claimed_at

-- record_count --
-- How many rows of a table an operation changed.
INSERT INTO standfast.ledger_count (workflow_id, plan_digest, operation, table_name, inserted, updated, deleted)
VALUES (
    %(workflow_id)s, %(plan_digest)s, %(operation)s, %(table)s, %(inserted)s, %(updated)s, %(deleted)s
)

-- record_row --
-- The image of a changed row.
INSERT INTO standfast.ledger_row
    (workflow_id, plan_digest, operation, position, table_name, key, before, after)
VALUES (
    %(workflow_id)s, %(plan_digest)s, %(operation)s, %(position)s, %(table)s, %(key)s, %(before)s, %(after)s
)

-- record_undo --
-- How the plan can be taken back.
INSERT INTO standfast.ledger_undo (workflow_id, plan_digest, operations, left_to_triggers, remarks, rows_digest)
VALUES (%(workflow_id)s, %(plan_digest)s, %(operations)s, %(left)s, %(remarks)s, %(rows_digest)s)

-- recall --
-- How the plan of a ticket can be taken back.
SELECT u.operations, u.left_to_triggers AS left, u.remarks, u.rows_digest
FROM standfast.ledger_undo u
JOIN standfast.ledger l USING (workflow_id, plan_digest)
WHERE u.workflow_id = %(workflow_id)s
ORDER BY l.executed_at DESC LIMIT 1

-- read --
-- An executed plan, with the counts of each operation in the plan's order.
SELECT
    l.plan_digest,
    l.executed_at,
    l.fingerprint,
    l.approved_by,
    ARRAY(
        SELECT coalesce(
            (
                SELECT jsonb_object_agg(
                    c.table_name,
                    jsonb_build_object('inserted', c.inserted, 'updated', c.updated, 'deleted', c.deleted)
                )
                FROM standfast.ledger_count c
                WHERE c.workflow_id = l.workflow_id AND c.plan_digest = l.plan_digest AND c.operation = o.number
            ),
            '{}'
        )
        FROM generate_series(0, jsonb_array_length(l.statements) - 1) AS o (number)
        ORDER BY o.number
    ) AS counts
FROM standfast.ledger l
WHERE l.workflow_id = %(workflow_id)s AND l.plan_digest = %(plan_digest)s
