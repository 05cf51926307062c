-- bounds --
-- A rehearsal must not hurt the target: bounds for this transaction.
SELECT set_config('statement_timeout', %(statement)s, true), set_config('lock_timeout', %(lock)s, true)
