-- known --
-- Whether a content is kept already.
SELECT FROM standfast.shown WHERE hash = %(hash)s

-- keep --
-- What somebody is shown; the same content is kept once.
INSERT INTO standfast.shown (hash, workflow_id, shown_at, content)
VALUES (%(hash)s, %(workflow_id)s, %(shown_at)s, %(content)s)
ON CONFLICT DO NOTHING

-- find --
-- What somebody was shown.
SELECT workflow_id, shown_at, content FROM standfast.shown WHERE hash = %(hash)s
