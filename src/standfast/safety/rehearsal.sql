-- bounds --
-- A rehearsal must not hurt the target: bounds for this transaction, and whose it is, so that another attempt can end it.
SELECT set_config('statement_timeout', %(statement)s, true), set_config('lock_timeout', %(lock)s, true),
    set_config('application_name', coalesce(%(session)s, current_setting('application_name')), true)
