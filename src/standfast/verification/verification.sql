-- patience --
-- Sorting a long chain takes longer than any other statement of ours may; and nobody who only reads needs to write.
SELECT set_config('statement_timeout', '10min', false), set_config('default_transaction_read_only', 'on', false)

-- by_ticket --
-- The chain up to a row, ticket by ticket; in the order of bytes, which all databases share. A row's own time is its
-- writer's word: it can't be older than the rows before it say, of which those from the future say nothing.
SELECT sequence, key, at, kind, workflow_id, actor, content, previous_hash, hash,
    coalesce(max(at) FILTER (WHERE at <= now()) OVER (ORDER BY sequence), at) AS reached
FROM standfast.audit
WHERE sequence <= %(head)s
ORDER BY workflow_id COLLATE "C", sequence

-- of_ticket --
-- All rows of one ticket.
SELECT sequence, key, at, kind, workflow_id, actor, content, previous_hash, hash
FROM standfast.audit
WHERE workflow_id = %(workflow_id)s
ORDER BY sequence

-- constraints --
-- Versions of constraints that differ in the chain and in their table, or are missing in one of them.
WITH recorded AS (
    SELECT key, content ->> 'document_digest' AS digest FROM standfast.audit WHERE kind = 'constraints'
), stored AS (
    SELECT 'constraints/' || target || '/' || version AS key, document FROM standfast.constraints
)
SELECT key, recorded.digest AS recorded, stored.document
FROM recorded FULL JOIN stored USING (key)
ORDER BY key

-- executed --
-- What a ledger says was executed, ticket by ticket; several targets may share it.
SELECT workflow_id, target, plan_digest, fingerprint, approved_by, executed_at
FROM standfast.ledger
ORDER BY workflow_id COLLATE "C", executed_at
