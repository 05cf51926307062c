-- latest --
-- The newest constraints of a target.
SELECT version, document FROM standfast.constraints WHERE target = %(target)s ORDER BY version DESC LIMIT 1

-- lock --
-- One new version at a time.
SELECT pg_advisory_xact_lock(hashtext('standfast.constraints'), hashtext(%(target)s))

-- append --
-- A new version; older ones stay.
INSERT INTO standfast.constraints (target, version, document, created_by, note)
SELECT %(target)s, coalesce(max(version), 0) + 1, %(document)s, %(created_by)s, %(note)s
FROM standfast.constraints WHERE target = %(target)s
RETURNING target, version, created_at, created_by, note

-- versions --
-- All versions, newest first.
SELECT target, version, created_at, created_by, note FROM standfast.constraints ORDER BY target, version DESC
