-- Tasks by number. Ids are hashes: an index on them touches a page of its own for nearly every row, and each
-- touched page is written and flushed. Numbers of the tasks that are alive stand side by side.
CREATE TABLE tasks (
    number  INTEGER PRIMARY KEY,
    task_id BLOB    NOT NULL UNIQUE
) STRICT;

-- The event log. Ids are given by the one writer and ascend in the order of commit.
CREATE TABLE events (
    id   INTEGER PRIMARY KEY,
    kind TEXT    NOT NULL,
    task INTEGER,           -- tasks.number
    at   INTEGER NOT NULL,  -- chain seconds UTC
    body BLOB    NOT NULL
) STRICT;

CREATE INDEX events_by_task ON events (task) WHERE task IS NOT NULL;

-- The outbox. `id` is also the sequence number of a message within its lane.
CREATE TABLE effects (
    id      INTEGER PRIMARY KEY,
    lane    TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    kind    TEXT    NOT NULL,
    task    INTEGER,        -- tasks.number
    cause   INTEGER,        -- events.id
    is_done INTEGER NOT NULL DEFAULT 0,
    body    BLOB    NOT NULL
) STRICT;

CREATE INDEX effects_pending ON effects (lane, key) WHERE is_done = 0;
CREATE INDEX effects_by_task ON effects (task) WHERE task IS NOT NULL;

CREATE TABLE marks (
    name TEXT PRIMARY KEY,
    body BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE records (
    kind TEXT NOT NULL,
    key  TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE snapshots (
    upto INTEGER PRIMARY KEY,  -- events.id
    body BLOB NOT NULL
) STRICT;
