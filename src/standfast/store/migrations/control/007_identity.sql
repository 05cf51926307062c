-- API tokens: what a program may do, and in whose name. Kept as SHA-256 only, as sessions are. A name is never given to a
-- second one: the audit chain speaks of tokens by their names.
CREATE TABLE standfast.api_token (
    name text PRIMARY KEY,
    token_hash bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    user_name text NOT NULL,
    scopes text[] NOT NULL CHECK (cardinality(scopes) > 0),
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    used_at timestamptz,  -- to the minute
    revoked_at timestamptz
);

-- Sessions get a number to speak of them by, and what their people may do. All sessions so far are of people who may do
-- everything; one that an older release opens from now on may do nothing.
ALTER TABLE standfast.session
    ADD COLUMN session_id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    ADD COLUMN scopes text[] NOT NULL DEFAULT '{view,submit,decide}',
    ADD COLUMN groups text[] NOT NULL DEFAULT '{}';
ALTER TABLE standfast.session ALTER COLUMN scopes SET DEFAULT '{}';
