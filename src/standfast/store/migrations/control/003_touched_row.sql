-- Which rows the plans of waiting tickets would change, so that two plans for one row are marked on both tickets. Rows
-- are hashed: the control database holds no keys of the target.
CREATE TABLE standfast.touched_row (
    target text NOT NULL,
    row_hash bytea NOT NULL,
    workflow_id text NOT NULL,
    until timestamptz NOT NULL,  -- then the ticket doesn't wait any more
    PRIMARY KEY (target, row_hash, workflow_id)
);
CREATE INDEX touched_row_workflow ON standfast.touched_row (workflow_id);
