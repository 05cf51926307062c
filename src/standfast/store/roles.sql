-- existing --
-- Which of these roles the server knows.
SELECT rolname AS name FROM pg_roles WHERE rolname = ANY(%(roles)s)

-- create --
-- A role that can log in and nothing else.
CREATE ROLE {role} LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS

-- create_observer --
-- A role that others become for as long as they look at rows; nobody logs in as it.
CREATE ROLE {role} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS

-- let_observe --
-- Members have to become the observer to see what it sees: they inherit nothing.
ALTER ROLE {role} NOINHERIT;
REVOKE {observer} FROM {role};
GRANT {observer} TO {role}

-- set_password --
-- The password comes as a SCRAM verifier, so that it is in no log of the server.
ALTER ROLE {role} PASSWORD {verifier}

-- pin --
-- A setting that every session of the role begins with, whoever opens it.
ALTER ROLE {role} IN DATABASE {database} SET {setting} = {value}

-- unpin --
-- Start from nothing, so that the settings are those pinned below and no others.
ALTER ROLE {role} IN DATABASE {database} RESET ALL

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
        OR EXISTS (
            SELECT FROM pg_class c JOIN pg_attribute f ON f.attrelid = c.oid CROSS JOIN aclexplode(f.attacl) a
            WHERE c.relnamespace = n.oid AND a.grantee = r.oid
        )
    )
ORDER BY name

-- revoke --
-- Start from nothing, so that the rights are those granted below and no others.
REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {roles};
REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM {roles};
REVOKE ALL ON SCHEMA {schema} FROM {roles}

-- relations --
-- The tables and views of schemas, with their columns.
SELECT n.nspname AS schema, c.relname AS name, c.relkind::text AS kind, ARRAY(
    SELECT a.attname::text FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
) AS columns
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(%(schemas)s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY 1, 2

-- sequences --
-- The sequences of schemas, and the tables whose columns they number.
SELECT n.nspname AS schema, c.relname AS name, tn.nspname AS table_schema, t.relname AS table_name
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass
    AND d.deptype IN ('a', 'i')
LEFT JOIN pg_class t ON t.oid = d.refobjid
LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE n.nspname = ANY(%(schemas)s) AND c.relkind = 'S'
ORDER BY 1, 2

-- grant_schema --
-- Names in the schema can be looked up; what stands behind them has rights of its own.
GRANT USAGE ON SCHEMA {schema} TO {roles}

-- grant --
-- One right on a table or view.
GRANT {privileges} ON {relation} TO {role}

-- grant_columns --
-- The right to read some columns of a table or view.
GRANT SELECT ({columns}) ON {relation} TO {role}

-- grant_sequence --
-- USAGE allows nextval and no setval.
GRANT USAGE ON SEQUENCE {relation} TO {roles}

-- grant_ledger --
-- Append and read: nobody who executes plans can change what was recorded. A fence is moved on.
GRANT USAGE ON SCHEMA standfast TO {roles};
GRANT SELECT ON standfast.migration TO {roles};
GRANT SELECT, INSERT ON standfast.ledger, standfast.ledger_count, standfast.ledger_row, standfast.ledger_undo
    TO {roles};
GRANT SELECT, INSERT, UPDATE ON standfast.fence TO {roles}

-- grant_executed --
-- What was executed, without its values and rows: `standfast audit verify` compares it with the audit chain.
GRANT USAGE ON SCHEMA standfast TO {role};
GRANT SELECT (workflow_id, plan_digest, target, fingerprint, approved_by, executed_at) ON standfast.ledger TO {role}

-- grant_control --
-- Append and read constraints and audit, the latter by its function alone; sessions, login links and tokens are also
-- revoked and used.
GRANT USAGE ON SCHEMA standfast TO {roles};
GRANT SELECT ON standfast.migration, standfast.model_call, standfast.audit TO {roles};
GRANT SELECT, INSERT ON standfast.constraints, standfast.namespace, standfast.shown TO {roles};
GRANT EXECUTE ON FUNCTION standfast.append_audit TO {roles};
GRANT SELECT, INSERT, UPDATE (revoked_at) ON standfast.session TO {roles};
GRANT SELECT, INSERT, UPDATE (used_at) ON standfast.login_link TO {roles};
GRANT SELECT, INSERT, UPDATE (used_at, revoked_at) ON standfast.api_token TO {roles};
GRANT SELECT, INSERT, DELETE ON standfast.touched_row TO {roles};
GRANT SELECT, INSERT ON standfast.batch, standfast.batch_ticket TO {roles};
GRANT UPDATE (state, submitted_before, ending, ended_at) ON standfast.batch_ticket TO {roles}

-- grant_journal --
-- Append and read, and count how often a recorded answer was used again.
GRANT USAGE ON SCHEMA standfast TO {roles};
GRANT SELECT ON standfast.migration TO {roles};
GRANT SELECT, INSERT, UPDATE (reused) ON standfast.model_call TO {roles}

-- grant_storage --
-- Append and read: nobody who stores payloads can change or remove one.
GRANT USAGE ON SCHEMA standfast TO {roles};
GRANT SELECT ON standfast.migration TO {roles};
GRANT SELECT, INSERT ON standfast.payload TO {roles}
