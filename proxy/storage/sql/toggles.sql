-- name: append
-- Nothing when there is one of this number or a higher one.
INSERT INTO toggle_versions (version, at, actor, reason, kind, expires_at, diff, document, returns)
SELECT :version, :at, :actor, :reason, :kind, :expires_at, :diff, :document, :returns
WHERE NOT EXISTS (SELECT 1 FROM toggle_versions WHERE version >= :version);

-- name: newest
SELECT version, at, actor, reason, kind, expires_at, diff, document, returns FROM toggle_versions
ORDER BY version DESC LIMIT 1;

-- name: get
SELECT version, at, actor, reason, kind, expires_at, diff, document, returns FROM toggle_versions
WHERE version = :version;

-- name: page
SELECT version, at, actor, reason, kind, expires_at, diff FROM toggle_versions
WHERE version < :before ORDER BY version DESC LIMIT :limit;
