-- forget --
-- What an earlier plan of the ticket would have changed, and what nobody waits for any more.
DELETE FROM standfast.touched_row WHERE workflow_id = %(workflow_id)s OR until < clock_timestamp()

-- note --
-- The rows of a plan that waits for a person.
INSERT INTO standfast.touched_row (target, row_hash, workflow_id, until)
SELECT %(target)s, row_hash, %(workflow_id)s, clock_timestamp() + %(waits)s
FROM unnest(%(rows)s::bytea[]) AS row_hash

-- others --
-- Other tickets whose plans change one of the rows that the plan of this one changes.
SELECT DISTINCT other.workflow_id
FROM standfast.touched_row own
JOIN standfast.touched_row other USING (target, row_hash)
WHERE own.workflow_id = %(workflow_id)s AND other.workflow_id <> %(workflow_id)s AND other.until > clock_timestamp()
ORDER BY other.workflow_id
