-- Batches, and what became of each of their tickets. Tickets and endings are payloads as Temporal would store them, so
-- that they are encrypted if those are; only where a ticket stands is to be seen, since it is counted all the time.
CREATE TABLE standfast.batch (
    batch_id text PRIMARY KEY,
    digest text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    tickets integer NOT NULL CHECK (tickets > 0),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE standfast.batch_ticket (
    batch_id text NOT NULL REFERENCES standfast.batch ON DELETE CASCADE,
    position integer NOT NULL CHECK (position >= 0),
    line integer NOT NULL CHECK (line > 0),
    workflow_id text NOT NULL,
    ticket bytea NOT NULL,
    state text NOT NULL DEFAULT 'ready',
    submitted_before boolean NOT NULL DEFAULT false,
    ending bytea,
    ended_at timestamptz,
    PRIMARY KEY (batch_id, position)
);
CREATE INDEX batch_ticket_state ON standfast.batch_ticket (batch_id, state, position);
