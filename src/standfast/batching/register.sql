-- create --
-- A batch, unless there is one of this id.
INSERT INTO standfast.batch (batch_id, digest, tickets) VALUES (%(batch_id)s, %(digest)s, %(tickets)s)
ON CONFLICT DO NOTHING

-- digest --
-- What tickets a batch has.
SELECT digest FROM standfast.batch WHERE batch_id = %(batch_id)s

-- fill --
-- The tickets of a new batch.
COPY standfast.batch_ticket (batch_id, position, line, workflow_id, ticket) FROM STDIN

-- page --
-- The next tickets that were not started, as many as fit into some bytes, at least one.
SELECT position, workflow_id, ticket
FROM (
    SELECT *, sum(octet_length(ticket)) OVER (ORDER BY position) - octet_length(ticket) AS bytes_before
    FROM (
        SELECT position, workflow_id, ticket
        FROM standfast.batch_ticket
        WHERE batch_id = %(batch_id)s AND state = 'ready' AND position >= %(first)s
        ORDER BY position
        LIMIT %(limit)s
    ) AS next
) AS measured
WHERE bytes_before < %(bytes)s
ORDER BY position

-- tickets --
-- Some tickets of a batch.
SELECT position, workflow_id, ticket FROM standfast.batch_ticket
WHERE batch_id = %(batch_id)s AND position = ANY(%(positions)s)
ORDER BY position

-- take_back --
-- Tickets that were perhaps started: they are handed out again, which finds those that were.
UPDATE standfast.batch_ticket SET state = 'ready' WHERE batch_id = %(batch_id)s AND state = 'running'

-- hand_out --
-- All tickets up to a position were started.
UPDATE standfast.batch_ticket SET state = 'running'
WHERE batch_id = %(batch_id)s AND state = 'ready' AND position < %(handed_out)s

-- leave_out --
-- All other tickets will not be started.
UPDATE standfast.batch_ticket SET state = 'not_started', ended_at = clock_timestamp()
WHERE batch_id = %(batch_id)s AND state = 'ready' AND position >= %(handed_out)s

-- meet --
-- Tickets that were there before the batch.
UPDATE standfast.batch_ticket SET submitted_before = true
WHERE batch_id = %(batch_id)s AND position = ANY(%(positions)s)

-- note --
-- The states of tickets, as far as they have not ended.
UPDATE standfast.batch_ticket AS t SET state = s.state
FROM unnest(%(positions)s::integer[], %(states)s::text[]) AS s (position, state)
WHERE t.batch_id = %(batch_id)s AND t.position = s.position AND t.ended_at IS NULL AND t.state <> s.state

-- end --
-- How tickets ended; what was said first holds.
UPDATE standfast.batch_ticket AS t SET state = e.state, ending = e.ending, ended_at = e.ended_at
FROM unnest(%(positions)s::integer[], %(states)s::text[], %(endings)s::bytea[], %(ended_at)s::timestamptz[])
    AS e (position, state, ending, ended_at)
WHERE t.batch_id = %(batch_id)s AND t.position = e.position AND t.ended_at IS NULL

-- workflow_ids --
-- The workflow ids of some tickets.
SELECT position, workflow_id FROM standfast.batch_ticket
WHERE batch_id = %(batch_id)s AND position = ANY(%(positions)s)

-- silent --
-- Tickets of the window that have not ended, as far as is known.
SELECT position, workflow_id FROM standfast.batch_ticket
WHERE batch_id = %(batch_id)s AND state IN ('running', 'waiting') AND position = ANY(%(positions)s)

-- others --
-- The next tickets, beside some, that have not ended, as far as is known; none that were handed out later.
SELECT position, workflow_id FROM standfast.batch_ticket
WHERE batch_id = %(batch_id)s AND (state = 'waiting' OR state = 'running' AND position < %(handed_out)s)
    AND position > %(after)s
    AND position <> ALL(%(than)s)
ORDER BY position
LIMIT %(limit)s

-- started --
-- The next tickets that the batch started and that have not ended, as far as is known.
SELECT position, workflow_id FROM standfast.batch_ticket
WHERE batch_id = %(batch_id)s AND state IN ('running', 'waiting') AND NOT submitted_before AND position > %(after)s
ORDER BY position
LIMIT %(limit)s

-- freed --
-- Tickets that need no place in the window any more.
SELECT position FROM standfast.batch_ticket
WHERE batch_id = %(batch_id)s AND position = ANY(%(window)s) AND state <> 'running'
ORDER BY position

-- states --
-- How many tickets are in which state.
SELECT state, count(*) AS tickets FROM standfast.batch_ticket WHERE batch_id = %(batch_id)s GROUP BY state

-- results --
-- Some tickets of a batch, in the order of the file, with what is known of them.
SELECT position, line, workflow_id, state, submitted_before, ending FROM standfast.batch_ticket
WHERE batch_id = %(batch_id)s AND position > %(after)s
ORDER BY position
LIMIT %(limit)s
