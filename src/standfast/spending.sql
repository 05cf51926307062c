-- spent --
-- What the model calls of these planner workflows took, and how often a recorded answer spared another call.
SELECT
    coalesce(model, activity) AS model,
    count(*) AS calls,
    coalesce(sum(input_tokens), 0)::bigint AS input_tokens,
    coalesce(sum(output_tokens), 0)::bigint AS output_tokens,
    coalesce(sum(cost_usd), 0)::float8 AS usd,
    count(*) FILTER (WHERE cost_usd IS NULL) AS unpriced,
    sum(reused)::bigint AS reused_calls,
    coalesce(sum(reused * input_tokens), 0)::bigint AS reused_input_tokens,
    coalesce(sum(reused * output_tokens), 0)::bigint AS reused_output_tokens,
    coalesce(sum(reused * cost_usd), 0)::float8 AS reused_usd,
    coalesce(sum(reused) FILTER (WHERE cost_usd IS NULL), 0)::bigint AS reused_unpriced
FROM standfast.model_call
WHERE workflow_id = ANY(%(workflows)s)
GROUP BY 1
ORDER BY calls DESC, model

-- calls --
-- Each model call of these planner workflows, without its answer.
SELECT run_id, activity_id, model, input_tokens, output_tokens, cost_usd::float8 AS usd, reused
FROM standfast.model_call
WHERE workflow_id = ANY(%(workflows)s)

-- by_day --
-- What the model calls of these planner workflows cost on each day (UTC), and what their answers spared later.
SELECT
    (recorded_at AT TIME ZONE 'UTC')::date AS day,
    coalesce(sum(cost_usd), 0)::float8 AS usd,
    coalesce(sum(reused * cost_usd), 0)::float8 AS usd_not_spent_again
FROM standfast.model_call
WHERE workflow_id = ANY(%(workflows)s)
GROUP BY 1
