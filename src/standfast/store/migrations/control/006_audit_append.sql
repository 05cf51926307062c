-- The audit chain grows by this function alone. It hashes what it stores, so its caller chooses neither the hash nor the
-- place of a row, and it is one statement: the lock is never held while a client thinks.
--
-- `new_content` is canonical JSON (RFC 8785), `new_at` ISO 8601 in UTC. Returns the row's hash; the same key again
-- changes nothing and returns the hash of the row that has it.
CREATE FUNCTION standfast.append_audit(
    new_key text, new_at text, new_kind text, new_workflow_id text, new_actor text, new_content text
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known text;
    previous text;
    moment constant timestamptz := new_at;
BEGIN
    SELECT a.hash INTO known FROM standfast.audit a WHERE a.key = new_key;
    IF known IS NOT NULL THEN
        RETURN known;
    END IF;
    -- Others than PostgreSQL know neither infinity nor the year 20000: one such row, and nobody could read the chain.
    IF moment NOT BETWEEN '2000-01-01 00:00:00+00' AND '2200-01-01 00:00:00+00' THEN
        RAISE EXCEPTION 'a row of standfast.audit can''t be of %', new_at USING ERRCODE = 'datetime_field_overflow';
    END IF;
    -- One writer at a time: each row needs the hash of the one before. Where the row is a part of a longer transaction,
    -- a client that freezes in it must not keep the others.
    PERFORM set_config('idle_in_transaction_session_timeout', '2s', true);
    PERFORM pg_advisory_xact_lock(hashtext('standfast.audit'));
    SELECT a.hash INTO known FROM standfast.audit a WHERE a.key = new_key;
    IF known IS NOT NULL THEN
        RETURN known;
    END IF;
    SELECT a.hash INTO previous FROM standfast.audit a ORDER BY a.sequence DESC LIMIT 1;
    previous := coalesce(previous, repeat('0', 64));
    -- What standfast.audit.row_hash does: canonical JSON sorts the names, and PostgreSQL escapes strings as it asks for.
    known := encode(sha256(convert_to(
        format(
            '{"actor":%s,"at":%s,"content":%s,"key":%s,"kind":%s,"previous":"%s","workflow_id":%s}',
            to_json(new_actor), to_json(new_at), new_content, to_json(new_key), to_json(new_kind), previous,
            to_json(new_workflow_id)
        ),
        'UTF8'
    )), 'hex');
    INSERT INTO standfast.audit (key, at, kind, workflow_id, actor, content, previous_hash, hash)
    VALUES (
        new_key, moment, new_kind, new_workflow_id, new_actor, new_content::jsonb, previous, known
    );
    RETURN known;
END
$$;
REVOKE ALL ON FUNCTION standfast.append_audit FROM PUBLIC;

-- Keeps out what an owner does by mistake. Who wants to can drop it; then the hashes tell.
CREATE FUNCTION standfast.refuse_audit_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'standfast.audit is append-only: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON standfast.audit
    FOR EACH STATEMENT EXECUTE FUNCTION standfast.refuse_audit_change();
ALTER TABLE standfast.audit ENABLE ALWAYS TRIGGER append_only;
