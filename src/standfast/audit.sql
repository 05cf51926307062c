-- append --
-- One more row, or the one that has the key; returns its hash.
SELECT standfast.append_audit(%(key)s, %(at)s, %(kind)s, %(workflow_id)s, %(actor)s, %(content)s) AS hash

-- head --
-- The newest row.
SELECT sequence, at, hash FROM standfast.audit ORDER BY sequence DESC LIMIT 1

-- rows --
-- The rows in their order, all or from the first one on that is not older: their times are not quite in that order.
SELECT sequence, key, at, kind, workflow_id, actor, content, previous_hash, hash
FROM standfast.audit
WHERE %(since)s::timestamptz IS NULL
    OR sequence >= (SELECT min(sequence) FROM standfast.audit WHERE at >= %(since)s::timestamptz)
ORDER BY sequence

-- newest --
-- The newest rows, of all or of one ticket.
SELECT sequence, key, at, kind, workflow_id, actor, content, previous_hash, hash
FROM standfast.audit
WHERE %(workflow_id)s::text IS NULL OR workflow_id = %(workflow_id)s
ORDER BY sequence DESC LIMIT %(limit)s
