-- create --
-- A new token, unless its name was used before.
INSERT INTO standfast.api_token (name, token_hash, user_name, scopes, created_by, expires_at)
VALUES (%(name)s, %(hash)s, %(user_name)s, %(scopes)s, %(created_by)s, now() + %(lasts)s::interval)
ON CONFLICT (name) DO NOTHING
RETURNING expires_at

-- list --
-- All tokens, whatever became of them.
SELECT name, user_name AS "user", scopes, created_by, created_at, expires_at, used_at, revoked_at
FROM standfast.api_token ORDER BY name

-- revoke --
-- Only one of several who revoke the same token gets a row back.
UPDATE standfast.api_token SET revoked_at = now() WHERE name = %(name)s AND revoked_at IS NULL
RETURNING user_name

-- find --
-- Whose a token is and what is wrong with it, if anything. That it was used is written at most once a minute.
WITH found AS (
    SELECT name, user_name, scopes,
        CASE WHEN revoked_at IS NOT NULL THEN 'was revoked' WHEN expires_at <= now() THEN 'has expired' END AS wrong
    FROM standfast.api_token WHERE token_hash = %(hash)s
), used AS (
    UPDATE standfast.api_token t SET used_at = now() FROM found f
    WHERE t.name = f.name AND f.wrong IS NULL AND (t.used_at IS NULL OR t.used_at < now() - interval '1 minute')
)
SELECT name, user_name, scopes, wrong FROM found
