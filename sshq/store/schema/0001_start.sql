-- What the controller must not forget.  `record` is JSON of the dataclass of that name (records.py); the other columns
-- repeat only what SQL has to look for.

CREATE TABLE store (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    store_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,          -- +1 a controller start; compared in every write
    next_job_id INTEGER NOT NULL,
    restored INTEGER NOT NULL        -- 1: came from a backup, and the nodes may know more than we do
) STRICT;

-- Content-addressed: the tasks of an array, or a thousand equal submissions, share one row.
CREATE TABLE spec (
    digest BLOB PRIMARY KEY,
    script TEXT NOT NULL,
    partitions TEXT NOT NULL,        -- JSON list
    record TEXT NOT NULL
) STRICT;

CREATE TABLE job (
    job_id INTEGER PRIMARY KEY,
    spec BLOB NOT NULL,
    array_job_id INTEGER,
    array_task_id INTEGER,
    uid INTEGER NOT NULL,
    user TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    since_at REAL NOT NULL,          -- eligible, else submitted
    until_at REAL NOT NULL,          -- ended, else infinite: one range condition finds what overlaps a window
    live INTEGER NOT NULL,           -- 0: purged, only history knows it
    record TEXT NOT NULL
) STRICT;
CREATE INDEX job_live ON job (job_id) WHERE live = 1;
CREATE INDEX job_array ON job (array_job_id, array_task_id) WHERE array_job_id IS NOT NULL;
CREATE INDEX job_until ON job (until_at);
CREATE INDEX job_uid ON job (uid, until_at);
CREATE INDEX job_spec ON job (spec);

CREATE TABLE launch (
    id TEXT PRIMARY KEY,
    job_id INTEGER NOT NULL,
    node TEXT NOT NULL,
    open INTEGER NOT NULL,           -- goes from 1 to 0, once
    record TEXT NOT NULL
) STRICT;
CREATE INDEX launch_open ON launch (node) WHERE open = 1;
CREATE INDEX launch_job ON launch (job_id);

CREATE TABLE accounting (
    launch_id TEXT PRIMARY KEY,      -- one row a launch, for ever
    job_id INTEGER NOT NULL,
    node TEXT NOT NULL,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX accounting_job ON accounting (job_id);
CREATE INDEX accounting_node ON accounting (node);

CREATE TABLE node (
    name TEXT PRIMARY KEY,
    record TEXT NOT NULL
) STRICT;

CREATE TABLE script (
    digest TEXT PRIMARY KEY,
    data BLOB NOT NULL
) STRICT;

CREATE TABLE token (
    uid INTEGER NOT NULL,
    token TEXT NOT NULL,
    job_id INTEGER NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (uid, token)
) STRICT;
