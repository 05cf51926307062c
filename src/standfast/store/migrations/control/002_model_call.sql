-- The journal of model calls: an answer is written here before its activity reports it, so that a crash in between
-- doesn't pay for it again. The key is Temporal's: all attempts of one activity share it.
CREATE TABLE standfast.model_call (
    run_id text NOT NULL,
    activity_id text NOT NULL,
    workflow_id text NOT NULL,
    activity text NOT NULL,
    attempt integer NOT NULL CHECK (attempt > 0),
    answer bytea NOT NULL,
    model text,
    input_tokens integer CHECK (input_tokens >= 0),
    output_tokens integer CHECK (output_tokens >= 0),
    cost_usd numeric CHECK (cost_usd >= 0),
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    reused integer NOT NULL DEFAULT 0 CHECK (reused >= 0),
    PRIMARY KEY (run_id, activity_id)
);
CREATE INDEX model_call_workflow ON standfast.model_call (workflow_id);
