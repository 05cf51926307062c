-- Constraints by target: each change is a new version, so that an old report can be explained.
CREATE TABLE standfast.constraints (
    target text NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    document jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    note text NOT NULL DEFAULT '',
    PRIMARY KEY (target, version)
);

-- The audit chain. The two unique hashes keep it a chain: a row has one successor at most.
CREATE TABLE standfast.audit (
    sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE,
    at timestamptz NOT NULL,
    kind text NOT NULL,
    workflow_id text NOT NULL,
    actor text NOT NULL,
    content jsonb NOT NULL,
    previous_hash text NOT NULL UNIQUE CHECK (previous_hash ~ '^[0-9a-f]{64}$'),
    hash text NOT NULL UNIQUE CHECK (hash ~ '^[0-9a-f]{64}$')
);
CREATE INDEX audit_workflow ON standfast.audit (workflow_id, sequence);

-- Sign-in to the dashboard. Tokens are kept as SHA-256 only: who reads these tables can't sign in.
CREATE TABLE standfast.session (
    token_hash bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    user_name text NOT NULL,
    mode text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz
);

CREATE TABLE standfast.login_link (
    token_hash bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);
