-- server --
-- What the server is set to for this session, and how many connections are left to its role.
SELECT
    current_setting('server_version_num')::integer / 10000 AS major,
    current_setting('server_version') AS version,
    current_setting('track_counts')::boolean AS track_counts,
    current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('default_transaction_read_only')::boolean AS read_only,
    pg_is_in_recovery() AS standby,
    coalesce((SELECT setting::integer FROM pg_settings WHERE name = 'transaction_timeout'), 0) AS transaction_timeout,
    pg_backend_pid() AS pid,
    clock_timestamp() AS clock,
    room.left_over AS room,
    room.limited_by
FROM (
    SELECT left_over, limited_by
    FROM (
        SELECT
            current_setting('max_connections')::integer
                - current_setting('superuser_reserved_connections')::integer
                - coalesce(current_setting('reserved_connections', true)::integer, 0)
                - (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL AND usename <> current_user),
            'max_connections of the server'
        UNION ALL
        SELECT
            datconnlimit
                - (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid AND usename <> current_user),
            'the connection limit of the database'
        FROM pg_database d WHERE datname = current_database() AND datconnlimit >= 0
        UNION ALL
        SELECT rolconnlimit, 'the connection limit of the role'
        FROM pg_roles WHERE rolname = current_user AND rolconnlimit >= 0
    ) AS limits (left_over, limited_by)
    ORDER BY left_over LIMIT 1
) AS room
