-- powers --
-- What the present role may do beyond rights on tables, in words.
SELECT power
FROM pg_roles r
CROSS JOIN LATERAL (
    VALUES
        (r.rolsuper, 'is a superuser'),
        (r.rolcreaterole, 'may create roles'),
        (r.rolcreatedb, 'may create databases'),
        (r.rolreplication, 'may replicate'),
        (r.rolbypassrls, 'bypasses row security'),
        (has_database_privilege(current_database(), 'TEMPORARY'), 'may create temporary tables'),
        (has_database_privilege(current_database(), 'CREATE'), 'may create schemas')
) AS p (held, power)
WHERE r.rolname = current_user AND held
UNION ALL
SELECT format('may create objects in schema %%I', nspname)
FROM pg_namespace WHERE nspname !~ '^pg_' AND has_schema_privilege(oid, 'CREATE')
UNION ALL
SELECT format('is a member of %%I', g.rolname)
FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles r ON r.oid = m.member
WHERE r.rolname = current_user AND g.rolname IS DISTINCT FROM %(observer)s
UNION ALL
SELECT format('inherits the rights of %%I', rolname)
FROM pg_roles WHERE rolname = %(observer)s AND pg_has_role(oid, 'USAGE')
UNION ALL
SELECT format('owns %%s %%s', kind, name)
FROM (
    SELECT 'database', datname, datdba FROM pg_database
    UNION ALL SELECT 'schema', nspname, nspowner FROM pg_namespace
    UNION ALL SELECT 'relation', oid::regclass::text, relowner FROM pg_class
    UNION ALL SELECT 'function', oid::regprocedure::text, proowner FROM pg_proc
) AS o (kind, name, owner)
JOIN pg_roles r ON r.oid = o.owner AND r.rolname = current_user AND NOT r.rolsuper
UNION ALL
SELECT format('may set the sequence %%I.%%I', n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_' AND CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'UPDATE') END

-- observer --
-- Whether the present role may become its observer.
SELECT EXISTS (
    SELECT FROM pg_roles WHERE rolname = %(observer)s AND pg_has_role(oid, 'MEMBER')
) AS may_become

-- appends --
-- Whether the present role may append to the audit chain.
SELECT has_function_privilege(p.oid, 'EXECUTE') AS may
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'standfast' AND p.proname = 'append_audit'

-- pins --
-- Settings that sessions of the present role should begin with, and don't.
WITH wanted AS (
    SELECT w.key AS name, CASE
        WHEN w.key = 'search_path' THEN (
            SELECT string_agg(quote_ident(v.value), ', ' ORDER BY v.ordinality)
            FROM jsonb_array_elements_text(w.value) WITH ORDINALITY AS v
        )
        ELSE w.value ->> 0
    END AS value
    FROM jsonb_each(%(pins)s) AS w
), kept AS (
    SELECT lower(split_part(c, '=', 1)) AS name, substr(c, strpos(c, '=') + 1) AS value
    FROM pg_db_role_setting s
    JOIN pg_roles r ON r.oid = s.setrole AND r.rolname = current_user
    JOIN pg_database d ON d.oid = s.setdatabase AND d.datname = current_database()
    CROSS JOIN unnest(s.setconfig) AS c
)
SELECT w.name, w.value AS wanted, k.value AS kept
FROM wanted w LEFT JOIN kept k ON k.name = w.name
WHERE k.value IS DISTINCT FROM w.value ORDER BY 1

-- differences --
-- Rights on tables that a role has and should not have, or should have and has not.
WITH tables AS (
    SELECT
        c.oid, n.nspname AS schema_name, c.relname AS table_name, has_schema_privilege(o.oid, n.oid, 'USAGE') AS usable,
        o.oid AS role
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_roles o ON o.rolname = coalesce(%(role)s, current_user)
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
), rights AS (
    SELECT t.oid, r.privilege, r.columns
    FROM tables t
    JOIN jsonb_to_recordset(%(rights)s) AS r ("schema" text, name text, privilege text, columns text[])
        ON r.schema = t.schema_name AND r.name = t.table_name
), whole AS (
    SELECT t.*, p.privilege, EXISTS (
        SELECT FROM rights r WHERE r.oid = t.oid AND r.privilege = p.privilege AND r.columns = '{}'
    ) AS expected, t.usable AND has_table_privilege(t.role, t.oid, p.privilege) AS held
    FROM tables t
    CROSS JOIN unnest(
        ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']
    ) AS p (privilege)
)
SELECT format('%%I.%%I', w.schema_name, w.table_name) AS "table", w.privilege, w.expected
FROM whole w WHERE w.held <> w.expected
UNION ALL
SELECT format('%%I.%%I (%%I)', w.schema_name, w.table_name, a.attname), w.privilege, e.expected
FROM whole w
JOIN pg_attribute a ON a.attrelid = w.oid AND a.attnum > 0 AND NOT a.attisdropped
CROSS JOIN LATERAL (
    SELECT EXISTS (
        SELECT FROM rights r WHERE r.oid = w.oid AND r.privilege = w.privilege AND a.attname = ANY(r.columns)
    ) AS expected
) AS e
WHERE w.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') AND NOT w.held AND NOT w.expected
    AND (w.usable AND has_column_privilege(w.role, w.oid, a.attnum, w.privilege)) <> e.expected
ORDER BY "table", privilege

-- kept --
-- How many large payloads are kept, how large they are, and since when.
SELECT count(*) AS payloads, coalesce(sum(octet_length(content)), 0)::bigint AS bytes, min(stored_at) AS oldest
FROM standfast.payload
