-- Statements of the PostgreSQL store, by name. Parameters are bound, never pasted.

-- name: take_lease
UPDATE lease
SET term = term + 1, holder = %s, groups = 0, expires_at = clock_timestamp() + make_interval(secs => %s)
WHERE expires_at < clock_timestamp()
RETURNING term;

-- name: leader
SELECT term, holder,
       CASE WHEN isfinite(expires_at) THEN extract(epoch FROM expires_at - clock_timestamp())::float8 ELSE 0 END
FROM lease;

-- name: let_go
UPDATE lease SET expires_at = '-infinity' WHERE term = %s;

-- name: hold_lease
SELECT hold_lease(%s, %s, %s);

-- name: groups_written
SELECT groups FROM lease WHERE term = %s FOR UPDATE;

-- name: write_group
SELECT write_group(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,
                   %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s);

-- name: last_event_id
SELECT coalesce(max(id), 0) FROM events;

-- name: last_effect_id
SELECT coalesce(max(id), 0) FROM effects;

-- name: outbox
SELECT id, lane, key, body FROM pending JOIN effects USING (id) ORDER BY id;

-- name: replay
SELECT id, kind, task_id, at, body FROM events LEFT JOIN tasks ON number = task
WHERE id > %s ORDER BY id LIMIT %s;

-- name: pending
SELECT id, lane, key, kind, task_id, cause, false, body
FROM pending JOIN effects USING (id) LEFT JOIN tasks ON number = task ORDER BY id;

-- name: pending_in_lane
SELECT id, lane, key, kind, task_id, cause, false, body
FROM pending JOIN effects USING (id) LEFT JOIN tasks ON number = task WHERE lane = %s ORDER BY id;

-- name: mark
SELECT body FROM marks WHERE name = %s;

-- name: record
SELECT body FROM records WHERE kind = %s AND key = %s;

-- name: records
SELECT key, body FROM records WHERE kind = %s ORDER BY key;

-- name: latest_snapshot
SELECT upto, body FROM snapshots WHERE upto < coalesce(%s, 9223372036854775807) ORDER BY upto DESC LIMIT 1;

-- name: story_events
WITH told AS (SELECT number FROM tasks WHERE task_id = %s)
SELECT id, kind, task_id, at, body FROM events LEFT JOIN tasks ON number = task
WHERE task = (SELECT number FROM told)
   OR id = ANY (ARRAY(SELECT cause FROM effects WHERE task = (SELECT number FROM told)))
ORDER BY id;

-- name: story_effects
SELECT id, lane, key, kind, task_id, cause, pending.id IS NULL, body
FROM effects JOIN tasks ON number = task LEFT JOIN pending USING (id)
WHERE task_id = %s ORDER BY id;
