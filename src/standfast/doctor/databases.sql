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
SELECT format('may create objects in schema %I', nspname)
FROM pg_namespace WHERE nspname !~ '^pg_' AND has_schema_privilege(oid, 'CREATE')
UNION ALL
SELECT format('is a member of %I', g.rolname)
FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles r ON r.oid = m.member
WHERE r.rolname = current_user

-- differences --
-- Rights on tables that the present role has and should not have, or should have and has not.
WITH tables AS (
    SELECT c.oid, n.nspname AS schema_name, c.relname AS table_name, has_schema_privilege(n.oid, 'USAGE') AS usable
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
), rights AS (
    SELECT t.oid, r.privileges, r.updates
    FROM tables t
    JOIN jsonb_to_recordset(%(rights)s) AS r (schema_name text, table_name text, privileges text[], updates text[])
        ON r.schema_name = t.schema_name AND coalesce(r.table_name, t.table_name) = t.table_name
)
SELECT format('%%I.%%I', t.schema_name, t.table_name) AS "table", p.privilege, e.expected
FROM tables t
CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p (privilege)
CROSS JOIN LATERAL (
    SELECT EXISTS (SELECT FROM rights r WHERE r.oid = t.oid AND p.privilege = ANY(r.privileges)) AS expected
) AS e
WHERE (t.usable AND has_table_privilege(t.oid, p.privilege)) <> e.expected
UNION ALL
SELECT format('%%I.%%I (%%I)', t.schema_name, t.table_name, a.attname), 'UPDATE', e.expected
FROM tables t
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
CROSS JOIN LATERAL (
    SELECT EXISTS (SELECT FROM rights r WHERE r.oid = t.oid AND a.attname = ANY(r.updates)) AS expected
) AS e
WHERE NOT has_table_privilege(t.oid, 'UPDATE')
    AND (t.usable AND has_column_privilege(t.oid, a.attnum, 'UPDATE')) <> e.expected
ORDER BY "table", privilege
