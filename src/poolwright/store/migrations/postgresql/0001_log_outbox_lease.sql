-- Who writes. One row, and its form never changes: a scheduler of any version must be able to read it while
-- it stands by. A new holder raises the term, and who has not the newest term can write nothing.
CREATE TABLE lease (
    one        boolean     PRIMARY KEY DEFAULT true CHECK (one),
    term       bigint      NOT NULL,
    holder     text        NOT NULL,
    expires_at timestamptz NOT NULL,  -- by the clock of this server
    groups     bigint      NOT NULL   -- groups of commits written in this term
) WITH (fillfactor = 10);             -- it is updated at every commit: room for its versions on one page
INSERT INTO lease (term, holder, expires_at, groups) VALUES (0, '', '-infinity', 0);

-- Tasks by number. Ids are hashes: an index on them touches a page of its own for nearly every row, and each
-- touched page is logged whole after a checkpoint. Numbers of the tasks that are alive stand side by side.
CREATE TABLE tasks (
    number  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task_id bytea  NOT NULL UNIQUE
);

-- The event log. Ids are given by the one writer and ascend in the order of commit.
CREATE TABLE events (
    id   bigint PRIMARY KEY,
    kind text   NOT NULL,
    task bigint,           -- tasks.number
    at   bigint NOT NULL,  -- chain seconds UTC
    body bytea  NOT NULL
);
CREATE INDEX events_by_task ON events (task) WHERE task IS NOT NULL;

-- The outbox. `id` is also the sequence number of a message within its lane. A row is never changed: those
-- that wait stand in `pending`, so that an effect which is done costs one small row and not a copy of itself.
CREATE TABLE effects (
    id    bigint PRIMARY KEY,
    lane  text   NOT NULL,
    key   text   NOT NULL,
    kind  text   NOT NULL,
    task  bigint,           -- tasks.number
    cause bigint,           -- events.id
    body  bytea  NOT NULL
);
CREATE INDEX effects_by_task ON effects (task) WHERE task IS NOT NULL;

CREATE TABLE pending (
    id bigint PRIMARY KEY  -- effects.id
);

CREATE TABLE marks (
    name text  PRIMARY KEY,
    body bytea NOT NULL
);

CREATE TABLE records (
    kind text COLLATE "C" NOT NULL,
    key  text COLLATE "C" NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (kind, key)
);

CREATE TABLE snapshots (
    upto bigint PRIMARY KEY,  -- events.id
    body bytea  NOT NULL
);

-- Keep the lease for so many seconds more, and note the group of commits that is being written. Raises PWL01
-- when the term is over: the row is locked by then, so no two terms can write at the same time.
CREATE FUNCTION hold_lease(my_term bigint, my_group bigint, seconds float8) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE lease
    SET groups = my_group, expires_at = clock_timestamp() + make_interval(secs => seconds)
    WHERE term = my_term;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'term % is over', my_term USING ERRCODE = 'PWL01';
    END IF;
END $$;

-- Write a group of commits: one statement, hence one transaction and one round trip, and no moment at which a
-- writer that is paused could hold the lease's row. Arrays of one kind of row have the same length; an empty
-- task and a cause of 0 mean none. The writer has checked and merged what it sends.
CREATE FUNCTION write_group(
    my_term bigint, my_group bigint, seconds float8,
    event_ids bigint[], event_kinds text[], event_tasks bytea[], event_ats bigint[], event_bodies bytea[],
    effect_ids bigint[], effect_lanes text[], effect_keys text[], effect_kinds text[], effect_tasks bytea[],
    effect_causes bigint[], effect_bodies bytea[],
    done_ids bigint[],
    mark_names text[], mark_bodies bytea[],
    gone_kinds text[], gone_keys text[],
    record_kinds text[], record_keys text[], record_bodies bytea[],
    snapshot_uptos bigint[], snapshot_bodies bytea[]
) RETURNS void
LANGUAGE plpgsql
-- The plans are to use the indexes whatever the statistics say, which are missing while the tables are new;
-- what is off counts as dear, and dear statements would be compiled each time.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
    ended bigint;
BEGIN
    PERFORM hold_lease(my_term, my_group, seconds);

    IF cardinality(event_ids) + cardinality(effect_ids) > 0 THEN
        INSERT INTO tasks (task_id)
        SELECT DISTINCT given.task_id FROM unnest(event_tasks || effect_tasks) AS given (task_id)
        WHERE given.task_id <> '' AND NOT EXISTS (SELECT FROM tasks known WHERE known.task_id = given.task_id);
    END IF;

    IF cardinality(event_ids) > 0 THEN
        INSERT INTO events (id, kind, task, at, body)
        SELECT given.id, given.kind, tasks.number, given.at, given.body
        FROM unnest(event_ids, event_kinds, event_tasks, event_ats, event_bodies)
             AS given (id, kind, task_id, at, body)
        LEFT JOIN tasks USING (task_id);
    END IF;

    IF cardinality(effect_ids) > 0 THEN
        INSERT INTO effects (id, lane, key, kind, task, cause, body)
        SELECT given.id, given.lane, given.key, given.kind, tasks.number, nullif(given.cause, 0), given.body
        FROM unnest(effect_ids, effect_lanes, effect_keys, effect_kinds, effect_tasks, effect_causes,
                    effect_bodies)
             AS given (id, lane, key, kind, task_id, cause, body)
        LEFT JOIN tasks USING (task_id);
        INSERT INTO pending (id) SELECT unnest(effect_ids);
    END IF;

    IF cardinality(done_ids) > 0 THEN
        DELETE FROM pending WHERE id = ANY (done_ids);
        GET DIAGNOSTICS ended = ROW_COUNT;
        IF ended <> cardinality(done_ids) THEN
            RAISE EXCEPTION '% of % effects were pending', ended, cardinality(done_ids);
        END IF;
    END IF;

    IF cardinality(mark_names) > 0 THEN
        INSERT INTO marks (name, body) SELECT * FROM unnest(mark_names, mark_bodies)
        ON CONFLICT (name) DO UPDATE SET body = excluded.body;
    END IF;

    IF cardinality(gone_keys) > 0 THEN
        DELETE FROM records USING unnest(gone_kinds, gone_keys) AS gone (kind, key)
        WHERE records.kind = gone.kind AND records.key = gone.key;
    END IF;

    IF cardinality(record_keys) > 0 THEN
        INSERT INTO records (kind, key, body) SELECT * FROM unnest(record_kinds, record_keys, record_bodies)
        ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body;
    END IF;

    IF cardinality(snapshot_uptos) > 0 THEN
        INSERT INTO snapshots (upto, body) SELECT * FROM unnest(snapshot_uptos, snapshot_bodies)
        ON CONFLICT (upto) DO UPDATE SET body = excluded.body;
        DELETE FROM snapshots WHERE upto NOT IN (SELECT upto FROM snapshots ORDER BY upto DESC LIMIT 2);
    END IF;
END $$;
