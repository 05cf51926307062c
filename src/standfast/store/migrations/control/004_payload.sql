-- Payloads that are too large for Temporal, sealed as Temporal would get them. Its histories hold claims in their place:
-- workflow and digest. Each belongs to one workflow, so that it can be removed with what is kept of that one.
CREATE TABLE standfast.payload (
    namespace text NOT NULL,
    workflow_id text NOT NULL,
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),  -- SHA-256 of the content
    run_id text NOT NULL,  -- empty where it isn't known yet
    mark bytea CHECK (octet_length(mark) = 32),  -- the same where the same was encrypted
    content bytea NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, workflow_id, digest),
    UNIQUE (namespace, workflow_id, mark)
);
ALTER TABLE standfast.payload ALTER COLUMN content SET STORAGE EXTERNAL;  -- what is sealed can't be compressed

-- The Temporal namespaces that this database was used with, so that what another one doesn't know isn't taken for ended.
CREATE TABLE standfast.namespace (
    name text PRIMARY KEY,
    id text NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now()
);
