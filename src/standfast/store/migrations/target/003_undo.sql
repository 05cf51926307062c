-- How an executed plan can be taken back, made of the images of the rows that it really changed, in its transaction.
CREATE TABLE standfast.ledger_undo (
    workflow_id text NOT NULL,
    plan_digest text NOT NULL,
    operations jsonb,  -- null if it can't be taken back; the remarks say why
    left_to_triggers text[] NOT NULL,
    remarks text[] NOT NULL,
    rows_digest text NOT NULL CHECK (rows_digest ~ '^[0-9a-f]{64}$'),  -- of the rows as the plan left them
    PRIMARY KEY (workflow_id, plan_digest),
    FOREIGN KEY (workflow_id, plan_digest) REFERENCES standfast.ledger
);
