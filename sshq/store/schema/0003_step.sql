-- Steps of launches, written with the row that closes the launch.

CREATE TABLE step (
    launch_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    job_id INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (launch_id, number)
) STRICT;
CREATE INDEX step_job ON step (job_id);
