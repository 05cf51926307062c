-- reuse --
-- The recorded answer of a call, counted as one that wasn't paid again.
UPDATE standfast.model_call SET reused = reused + 1
WHERE run_id = %(run_id)s AND activity_id = %(activity_id)s
RETURNING answer

-- record --
-- An answer. The first one counts: a worker that was frozen may bring a second one.
INSERT INTO standfast.model_call
    (run_id, activity_id, workflow_id, activity, attempt, answer, model, input_tokens, output_tokens, cost_usd)
VALUES (
    %(run_id)s, %(activity_id)s, %(workflow_id)s, %(activity)s, %(attempt)s, %(answer)s, %(model)s,
    %(input_tokens)s, %(output_tokens)s, %(cost_usd)s
)
ON CONFLICT DO NOTHING
