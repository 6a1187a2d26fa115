-- Statements of the SQLite store, by name. `:name` parameters are bound, never pasted.

-- name: last_event_id
SELECT coalesce(max(id), 0) FROM events;

-- name: last_effect_id
SELECT coalesce(max(id), 0) FROM effects;

-- name: task_number
SELECT number FROM tasks WHERE task_id = ?;

-- name: insert_task
INSERT INTO tasks (task_id) VALUES (?) RETURNING number;

-- name: insert_event
INSERT INTO events (id, kind, task, at, body) VALUES (?, ?, ?, ?, ?);

-- name: insert_effect
INSERT INTO effects (id, lane, key, kind, task, cause, body)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7
WHERE NOT EXISTS (SELECT 1 FROM effects WHERE is_done = 0 AND lane = ?2 AND key = ?3 AND body = ?7);

-- name: pending_twin
SELECT id FROM effects WHERE is_done = 0 AND lane = ? AND key = ? AND body = ?;

-- name: mark_done
UPDATE effects SET is_done = 1 WHERE id = ? AND is_done = 0;

-- name: mark_done_through
UPDATE effects SET is_done = 1 WHERE lane = ? AND id <= ? AND is_done = 0;

-- name: put_mark
INSERT INTO marks (name, body) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body;

-- name: put_record
INSERT INTO records (kind, key, body) VALUES (?, ?, ?)
ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body;

-- name: delete_record
DELETE FROM records WHERE kind = ? AND key = ?;

-- name: put_snapshot
INSERT INTO snapshots (upto, body) VALUES (?, ?) ON CONFLICT (upto) DO UPDATE SET body = excluded.body;

-- name: forget_old_snapshots
DELETE FROM snapshots WHERE upto NOT IN (SELECT upto FROM snapshots ORDER BY upto DESC LIMIT 2);

-- name: replay
SELECT id, kind, task_id, at, body FROM events LEFT JOIN tasks ON number = task
WHERE id > ? ORDER BY id LIMIT ?;

-- name: pending
SELECT id, lane, key, kind, task_id, cause, is_done, body
FROM effects INDEXED BY effects_pending LEFT JOIN tasks ON number = task
WHERE is_done = 0 ORDER BY id;

-- name: pending_in_lane
SELECT id, lane, key, kind, task_id, cause, is_done, body
FROM effects INDEXED BY effects_pending LEFT JOIN tasks ON number = task
WHERE is_done = 0 AND lane = ? ORDER BY id;

-- name: mark
SELECT body FROM marks WHERE name = ?;

-- name: record
SELECT body FROM records WHERE kind = ? AND key = ?;

-- name: records
SELECT key, body FROM records WHERE kind = ? ORDER BY key;

-- name: latest_snapshot
SELECT upto, body FROM snapshots WHERE ?1 IS NULL OR upto < ?1 ORDER BY upto DESC LIMIT 1;

-- name: story_events
SELECT id, kind, task_id, at, body FROM events LEFT JOIN tasks ON number = task
WHERE task = (SELECT number FROM tasks WHERE task_id = ?1)
   OR id IN (SELECT cause FROM effects WHERE task = (SELECT number FROM tasks WHERE task_id = ?1))
ORDER BY id;

-- name: story_effects
SELECT id, lane, key, kind, task_id, cause, is_done, body FROM effects JOIN tasks ON number = task
WHERE task_id = ? ORDER BY id;
