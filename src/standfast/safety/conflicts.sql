-- forget --
-- What an earlier plan of the ticket would have changed, and what nobody waits for any more. Not clock_timestamp(): that
-- moves on while the statement runs, so no index would be of use.
DELETE FROM standfast.touched_row WHERE workflow_id = %(workflow_id)s OR until < now()

-- note --
-- The rows of a plan that waits for a person.
INSERT INTO standfast.touched_row (target, row_hash, workflow_id, until)
SELECT %(target)s, row_hash, %(workflow_id)s, clock_timestamp() + %(waits)s
FROM unnest(%(rows)s::bytea[]) AS row_hash

-- others --
-- For each of these tickets, some other tickets whose plans change one of the rows that its plan changes.
SELECT own.workflow_id, (array_agg(DISTINCT found.workflow_id ORDER BY found.workflow_id))[:%(others)s] AS others
FROM unnest(%(workflow_ids)s::text[]) AS own (workflow_id)
CROSS JOIN LATERAL (
    SELECT other.workflow_id
    FROM (
        SELECT target, row_hash, workflow_id
        FROM standfast.touched_row
        WHERE workflow_id = own.workflow_id
        LIMIT %(of_a_ticket)s
    ) AS mine
    CROSS JOIN LATERAL (
        SELECT workflow_id
        FROM standfast.touched_row
        WHERE target = mine.target
          AND row_hash = mine.row_hash
          AND workflow_id <> mine.workflow_id
          AND until > clock_timestamp()
        LIMIT %(of_a_row)s
    ) AS other
) AS found
GROUP BY own.workflow_id
