-- add_link --
-- A one-time login link.
INSERT INTO standfast.login_link (token_hash, expires_at) VALUES (%(hash)s, now() + %(lasts)s)

-- use_link --
-- Only one of several who use the same link at once gets a row back.
UPDATE standfast.login_link SET used_at = now()
WHERE token_hash = %(hash)s AND used_at IS NULL AND expires_at > now()
RETURNING used_at

-- used_at --
-- Why a link was not accepted: used at this time, or NULL if it has expired.
SELECT used_at FROM standfast.login_link WHERE token_hash = %(hash)s

-- open --
-- A new session.
INSERT INTO standfast.session (token_hash, user_name, mode, scopes, groups, expires_at)
VALUES (%(hash)s, %(user_name)s, %(mode)s, %(scopes)s, %(groups)s, now() + %(lasts)s)
RETURNING session_id

-- find --
-- The session of a cookie, if it is still good, and its way in is still open.
SELECT user_name, mode, scopes, groups FROM standfast.session
WHERE token_hash = %(hash)s AND mode = ANY(%(modes)s) AND revoked_at IS NULL AND expires_at > now()

-- list --
-- Sessions that are still good, the newest first.
SELECT session_id AS number, user_name AS "user", mode, scopes, groups, created_at, expires_at FROM standfast.session
WHERE revoked_at IS NULL AND expires_at > now()
ORDER BY session_id DESC

-- sign_out --
-- Signing out ends the session for good.
UPDATE standfast.session SET revoked_at = now() WHERE token_hash = %(hash)s AND revoked_at IS NULL
RETURNING session_id, user_name

-- revoke --
-- End sessions that are still good.
UPDATE standfast.session SET revoked_at = now()
WHERE session_id = ANY(%(numbers)s) AND revoked_at IS NULL AND expires_at > now()
RETURNING session_id, user_name
