-- The ledger: one row per executed plan, inserted by the transaction that makes the change. Its key is what makes
-- execution happen once.
CREATE TABLE standfast.ledger (
    workflow_id text NOT NULL,
    plan_digest text NOT NULL CHECK (plan_digest ~ '^[0-9a-f]{64}$'),
    target text NOT NULL,
    statements jsonb NOT NULL,
    fingerprint text NOT NULL CHECK (fingerprint ~ '^[0-9a-f]{64}$'),
    approved_by text[] NOT NULL,
    executed_at timestamptz NOT NULL DEFAULT now(),
    attempt integer NOT NULL CHECK (attempt > 0),
    PRIMARY KEY (workflow_id, plan_digest)
);

-- How many rows each operation really changed. A table of its own: counts are known after the ledger row is there,
-- and nobody may update that one.
CREATE TABLE standfast.ledger_count (
    workflow_id text NOT NULL,
    plan_digest text NOT NULL,
    operation integer NOT NULL CHECK (operation >= 0),
    table_name text NOT NULL,
    inserted integer NOT NULL CHECK (inserted >= 0),
    updated integer NOT NULL CHECK (updated >= 0),
    deleted integer NOT NULL CHECK (deleted >= 0),
    PRIMARY KEY (workflow_id, plan_digest, operation, table_name),
    FOREIGN KEY (workflow_id, plan_digest) REFERENCES standfast.ledger
);

-- The images of the changed rows, from which a change can be taken back.
CREATE TABLE standfast.ledger_row (
    workflow_id text NOT NULL,
    plan_digest text NOT NULL,
    operation integer NOT NULL CHECK (operation >= 0),
    position integer NOT NULL CHECK (position >= 0),
    table_name text NOT NULL,
    key jsonb NOT NULL,
    before jsonb,
    after jsonb,
    PRIMARY KEY (workflow_id, plan_digest, operation, position),
    FOREIGN KEY (workflow_id, plan_digest) REFERENCES standfast.ledger
);
