-- name: tree
SELECT size, peaks FROM audit_tree WHERE id = 0;

-- name: grow_tree
UPDATE audit_tree SET size = :size, peaks = :peaks WHERE id = 0 AND size = :before;

-- name: append
INSERT INTO audit_entries (seq, entry, leaf, at, action, outcome, actor, target, request_id, key_id)
VALUES (:seq, :entry, :leaf, :at, :action, :outcome, :actor, :target, :request_id, :key_id);

-- name: walk
SELECT seq, entry, leaf, at, action, outcome, actor, target, request_id, key_id FROM audit_entries
WHERE seq >= :first AND seq < :end ORDER BY seq LIMIT :limit;

-- name: count
SELECT count(*) FROM audit_entries WHERE seq >= :first AND seq < :end;

-- name: find
-- The conditions that are asked for, one below another, then find_order.
SELECT seq, entry, leaf, at, action, outcome, actor, target, request_id, key_id FROM audit_entries
WHERE seq < :before

-- name: find_action
AND action = :action

-- name: find_action_prefix
AND action >= :action AND action < :action_end

-- name: find_actor
AND actor = :actor AND actor <> ''

-- name: find_target
AND target = :target AND target <> ''

-- name: find_outcome
AND outcome = :outcome

-- name: find_request_id
AND request_id = :request_id AND request_id <> ''

-- name: find_key_id
AND key_id = :key_id AND key_id <> ''

-- name: find_since
AND at >= :since

-- name: find_until
AND at < :until

-- name: find_order
ORDER BY seq DESC LIMIT :limit

-- name: checkpoints
SELECT size, root, at, note FROM audit_checkpoints WHERE size > :above ORDER BY size LIMIT :limit;

-- name: last_checkpoint
SELECT size, root, at, note FROM audit_checkpoints ORDER BY size DESC LIMIT 1;

-- name: add_checkpoint
INSERT INTO audit_checkpoints (size, root, at, note) VALUES (:size, :root, :at, :note)
ON CONFLICT DO NOTHING;

-- name: segments
SELECT first, size, root, last_at, sealed_at, dropped_at FROM audit_segments ORDER BY first;

-- name: segment
SELECT first, size, root, last_at, sealed_at, dropped_at FROM audit_segments WHERE first = :first;

-- name: add_segment
INSERT INTO audit_segments (first, size, root, last_at, sealed_at, dropped_at)
VALUES (:first, :size, :root, :last_at, :sealed_at, :dropped_at) ON CONFLICT DO NOTHING;

-- name: drop_entries
DELETE FROM audit_entries WHERE seq >= :first AND seq < :end;

-- name: mark_dropped
UPDATE audit_segments SET dropped_at = :at WHERE first = :first AND dropped_at = '';

-- name: key_by_tag
SELECT key_id, tag, wrapped FROM audit_keys WHERE tag = :tag;

-- name: key_by_id
SELECT key_id, tag, wrapped FROM audit_keys WHERE key_id = :key_id;

-- name: add_key
INSERT INTO audit_keys (key_id, tag, wrapped) VALUES (:key_id, :tag, :wrapped) ON CONFLICT DO NOTHING;

-- name: erase_key
DELETE FROM audit_keys WHERE tag = :tag;

-- name: spool_position
SELECT position FROM spool_positions WHERE name = :name;

-- name: set_spool_position
INSERT INTO spool_positions (name, position) VALUES (:name, :position)
ON CONFLICT (name) DO UPDATE SET position = excluded.position;

-- name: forget_spool
DELETE FROM spool_positions WHERE name = :name;
