-- The newest attempt to execute a plan, as (execution, attempt). An older one that wakes up late can't commit any more.
CREATE TABLE standfast.fence (
    workflow_id text NOT NULL,
    plan_digest text NOT NULL CHECK (plan_digest ~ '^[0-9a-f]{64}$'),
    execution integer NOT NULL CHECK (execution > 0),
    attempt integer NOT NULL CHECK (attempt > 0),
    PRIMARY KEY (workflow_id, plan_digest)
);
