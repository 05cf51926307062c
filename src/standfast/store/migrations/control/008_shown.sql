-- What people were shown before they decided, so that an auditor can look at the same: sealed as the payloads of the
-- ticket's workflow are, each content once. The audit chain has its hash.
CREATE TABLE standfast.shown (
    hash text PRIMARY KEY CHECK (hash ~ '^[0-9a-f]{64}$'),  -- SHA-256 of the content before it was sealed
    workflow_id text NOT NULL,
    shown_at timestamptz NOT NULL,  -- for the first time
    content bytea NOT NULL
);
CREATE INDEX shown_workflow ON standfast.shown (workflow_id);
ALTER TABLE standfast.shown ALTER COLUMN content SET STORAGE EXTERNAL;  -- what is sealed can't be compressed
