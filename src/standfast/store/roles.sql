-- existing --
-- Which of these roles the server knows.
SELECT rolname AS name FROM pg_roles WHERE rolname = ANY(%(roles)s)

-- create --
-- A role that can log in and nothing else.
CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS

-- set_password --
-- The password comes as a SCRAM verifier, so that it is in no log of the server.
ALTER ROLE {role} PASSWORD {verifier}

-- read_only --
-- A second lock beside the missing privileges.
ALTER ROLE {role} SET default_transaction_read_only = on

-- connect --
-- Needed where an administrator has taken it from PUBLIC.
GRANT CONNECT ON DATABASE {database} TO {roles}

-- open_to_public --
-- What everybody may create in this database: PostgreSQL's default until 14, and TEMP until today.
SELECT
    has_database_privilege('public', current_database(), 'TEMPORARY') AS temporary,
    ARRAY(
        SELECT nspname::text FROM pg_namespace
        WHERE nspname !~ '^pg_' AND has_schema_privilege('public', oid, 'CREATE') ORDER BY nspname
    ) AS schemas

-- others --
-- Roles that exist beside ours and that are bound by privileges.
SELECT rolname AS name FROM pg_roles WHERE rolname !~ '^(pg_|standfast_)' AND NOT rolsuper ORDER BY rolname

-- keep_temporary --
-- What is taken from PUBLIC stays with those who have it today.
GRANT TEMPORARY ON DATABASE {database} TO {roles}

-- close_temporary --
-- A temporary table can shadow a real one.
REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC

-- keep_create --
-- What is taken from PUBLIC stays with those who have it today.
GRANT CREATE ON SCHEMA {schema} TO {roles}

-- close_create --
-- A function of one's own can shadow the server's.
REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC

-- granted_schemas --
-- The schemas in which one of these roles was granted something.
SELECT DISTINCT n.nspname AS name
FROM pg_namespace n
CROSS JOIN pg_roles r
WHERE r.rolname = ANY(%(roles)s)
    AND (
        EXISTS (SELECT FROM aclexplode(n.nspacl) a WHERE a.grantee = r.oid)
        OR EXISTS (
            SELECT FROM pg_class c CROSS JOIN aclexplode(c.relacl) a
            WHERE c.relnamespace = n.oid AND a.grantee = r.oid
        )
    )
ORDER BY name

-- revoke --
-- Start from nothing, so that the rights are those granted below and no others.
REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {roles};
REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM {roles};
REVOKE ALL ON SCHEMA {schema} FROM {roles}

-- grant_read --
-- What context retrieval and the planner's tools need.
GRANT USAGE ON SCHEMA {schema} TO {roles};
GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {roles}

-- grant_write --
-- What a plan may do. USAGE on a sequence allows nextval and no setval.
GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {roles};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {roles}

-- grant_ledger --
-- Append and read: nobody who executes plans can change what was recorded. A fence is moved on.
GRANT USAGE ON SCHEMA standfast TO {roles};
GRANT SELECT ON standfast.migration TO {roles};
GRANT SELECT, INSERT ON standfast.ledger, standfast.ledger_count, standfast.ledger_row, standfast.ledger_undo
    TO {roles};
GRANT SELECT, INSERT, UPDATE ON standfast.fence TO {roles}

-- grant_control --
-- Append and read constraints and audit; sessions and login links are also revoked and used up.
GRANT USAGE ON SCHEMA standfast TO {roles};
GRANT SELECT ON standfast.migration, standfast.model_call TO {roles};
GRANT SELECT, INSERT ON standfast.constraints, standfast.audit TO {roles};
GRANT SELECT, INSERT, UPDATE ON standfast.session, standfast.login_link TO {roles};
GRANT SELECT, INSERT, DELETE ON standfast.touched_row TO {roles}

-- grant_journal --
-- Append and read, and count how often a recorded answer was used again.
GRANT USAGE ON SCHEMA standfast TO {roles};
GRANT SELECT ON standfast.migration TO {roles};
GRANT SELECT, INSERT, UPDATE (reused) ON standfast.model_call TO {roles}
