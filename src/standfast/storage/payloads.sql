-- store --
-- A payload of a workflow; the same content again changes nothing.
INSERT INTO standfast.payload (namespace, workflow_id, digest, run_id, mark, content)
VALUES (%(namespace)s, %(workflow_id)s, %(digest)s, %(run_id)s, %(mark)s, %(content)b)
ON CONFLICT DO NOTHING

-- marked --
-- What a workflow has with this mark.
SELECT digest FROM standfast.payload
WHERE namespace = %(namespace)s AND workflow_id = %(workflow_id)s AND mark = %(mark)s

-- retrieve --
-- The content that a claim names.
SELECT content FROM standfast.payload
WHERE namespace = %(namespace)s AND workflow_id = %(workflow_id)s AND digest = %(digest)s
