-- become_observer --
-- The observer's rights until the transaction ends. A superuser needs none, and is a member of every target's observer.
SELECT set_config('role', o.rolname, true) AS role
FROM pg_roles o JOIN pg_roles me ON me.rolname = session_user
WHERE o.rolname ~ '^standfast_.+_observer$' AND pg_has_role(me.oid, o.oid, 'MEMBER') AND NOT me.rolsuper

-- be_oneself --
-- Back to the role that logged in.
SELECT set_config('role', 'none', true)
