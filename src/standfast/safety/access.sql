-- own_triggers --
-- Whether some trigger runs with the rights of whoever fires it: then these have to do for what it writes.
SELECT EXISTS (
    SELECT FROM pg_trigger t
    JOIN pg_class c ON c.oid = t.tgrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE n.nspname = ANY(%(schemas)s) AND NOT t.tgisinternal AND NOT p.prosecdef
) AS found
