-- payloads --
-- The payloads of a namespace that are older than a moment or belong with such ones, by ticket.
SELECT ticket, array_agg(DISTINCT workflow_id) AS keys, max(stored_at) AS newest
FROM (
    SELECT regexp_replace(workflow_id, '/(plan/[0-9]+|rehearsal)$', '') AS ticket, workflow_id, stored_at
    FROM standfast.payload WHERE namespace = %(namespace)s
) AS kept
GROUP BY ticket HAVING min(stored_at) < %(before)s

-- count_payloads --
-- How many payloads these workflows have, and how large they are.
SELECT count(*) AS payloads, coalesce(sum(octet_length(content)), 0)::bigint AS payload_bytes
FROM standfast.payload WHERE namespace = %(namespace)s AND workflow_id = ANY(%(keys)s)

-- erase_payloads --
-- Remove the payloads of these workflows.
DELETE FROM standfast.payload WHERE namespace = %(namespace)s AND workflow_id = ANY(%(keys)s)

-- answers --
-- The answers of models that are older than a moment or belong with such ones, by ticket.
SELECT ticket, array_agg(DISTINCT workflow_id) AS keys, max(recorded_at) AS newest
FROM (
    SELECT regexp_replace(workflow_id, '/plan/[0-9]+$', '') AS ticket, workflow_id, recorded_at
    FROM standfast.model_call WHERE octet_length(answer) > 0
) AS kept
GROUP BY ticket HAVING min(recorded_at) < %(before)s

-- count_answers --
-- How many answers these workflows have.
SELECT count(*) AS answers
FROM standfast.model_call WHERE workflow_id = ANY(%(keys)s) AND octet_length(answer) > 0

-- erase_answers --
-- Forget what models said to these workflows. Model, tokens and price stay, so that figures still add up.
UPDATE standfast.model_call SET answer = '' WHERE workflow_id = ANY(%(keys)s) AND octet_length(answer) > 0

-- shown --
-- What people were shown of tickets before a moment, or together with such content.
SELECT workflow_id AS ticket, array_agg(DISTINCT workflow_id) AS keys, max(shown_at) AS newest
FROM standfast.shown
GROUP BY workflow_id HAVING min(shown_at) < %(before)s

-- count_shown --
-- How many contents of these tickets are kept as people were shown them.
SELECT count(*) AS shown FROM standfast.shown WHERE workflow_id = ANY(%(keys)s)

-- erase_shown --
-- Remove them; the audit chain keeps their hashes.
DELETE FROM standfast.shown WHERE workflow_id = ANY(%(keys)s)

-- batch_tickets --
-- Batches that are older than a moment and still have content, as the workflows that they are.
SELECT 'batch/' || batch_id AS ticket, ARRAY[batch_id] AS keys, max(coalesce(ended_at, created_at)) AS newest
FROM standfast.batch_ticket JOIN standfast.batch USING (batch_id)
WHERE created_at < %(before)s AND (octet_length(ticket) > 0 OR ending IS NOT NULL)
GROUP BY batch_id

-- count_batch_tickets --
-- How many tickets these batches have kept.
SELECT count(*) AS batch_tickets FROM standfast.batch_ticket
WHERE batch_id = ANY(%(keys)s) AND (octet_length(ticket) > 0 OR ending IS NOT NULL)

-- erase_batch_tickets --
-- Forget the tickets of these batches and what is known of their ends beside the states, so that a batch still adds up.
UPDATE standfast.batch_ticket SET ticket = '', ending = NULL
WHERE batch_id = ANY(%(keys)s) AND (octet_length(ticket) > 0 OR ending IS NOT NULL)

-- count_expired --
-- How many sessions, login links and noted rows have lost their meaning before a moment.
SELECT
    (SELECT count(*) FROM standfast.session WHERE expires_at < %(before)s) AS sessions,
    (SELECT count(*) FROM standfast.login_link WHERE expires_at < %(before)s) AS login_links,
    (SELECT count(*) FROM standfast.touched_row WHERE until < %(before)s) AS noted_rows

-- erase_expired --
-- Remove sessions, login links and noted rows that have lost their meaning before a moment.
WITH sessions AS (DELETE FROM standfast.session WHERE expires_at < %(before)s),
    links AS (DELETE FROM standfast.login_link WHERE expires_at < %(before)s)
DELETE FROM standfast.touched_row WHERE until < %(before)s

-- executed --
-- Tickets that have executed a plan before a moment and whose rows are still in the ledger.
SELECT workflow_id AS ticket, max(executed_at) AS newest
FROM standfast.ledger
WHERE statements @? '$[*].sql'
GROUP BY workflow_id HAVING min(executed_at) < %(before)s

-- count_images --
-- How many statements and images of rows the ledger has of these tickets.
SELECT
    (
        SELECT coalesce(sum(jsonb_array_length(statements)), 0)::bigint
        FROM standfast.ledger WHERE workflow_id = ANY(%(tickets)s)
    ) AS statements,
    (SELECT count(*) FROM standfast.ledger_row WHERE workflow_id = ANY(%(tickets)s)) AS row_images

-- erase_images --
-- Remove the images of rows.
DELETE FROM standfast.ledger_row WHERE workflow_id = ANY(%(tickets)s)

-- erase_undo --
-- Remove how plans could be taken back, and say why they can't be any more.
UPDATE standfast.ledger_undo SET operations = NULL, remarks = ARRAY[%(reason)s]
WHERE workflow_id = ANY(%(tickets)s) AND operations IS NOT NULL

-- erase_statements --
-- Forget statements and their values; that there were so many, whose plan it was, and who approved it stays.
UPDATE standfast.ledger SET statements = (
    SELECT coalesce(jsonb_agg('{}'::jsonb), '[]') FROM jsonb_array_elements(statements)
)
WHERE workflow_id = ANY(%(tickets)s)

-- note_namespace --
-- Remember the Temporal namespace that this database is used with.
INSERT INTO standfast.namespace (name, id) VALUES (%(name)s, %(id)s) ON CONFLICT DO NOTHING

-- namespaces --
-- The Temporal namespaces that this database was used with.
SELECT name, id FROM standfast.namespace
