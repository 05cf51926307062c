-- take_over --
-- Everybody may end sessions of the own role.
SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE application_name = %(name)s AND usename = current_user AND datname = current_database()
    AND pid <> pg_backend_pid()
