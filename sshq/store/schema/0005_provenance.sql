-- What is needed to tell of a job where it came from and where it ran, for as long as the history has it.

ALTER TABLE spec ADD COLUMN kind TEXT NOT NULL DEFAULT 'script';
ALTER TABLE spec ADD COLUMN environ TEXT NOT NULL DEFAULT '';
UPDATE spec SET kind = coalesce(json_extract(record, '$.kind'), 'script'), environ = coalesce(json_extract(record, '$.environ'), '');
CREATE INDEX spec_script ON spec (script, kind);
CREATE INDEX spec_environ ON spec (environ);

ALTER TABLE launch ADD COLUMN facts TEXT;
CREATE INDEX launch_facts ON launch (facts) WHERE facts IS NOT NULL;

-- Names of variables with keyed digests of their values; the values are never in here.
CREATE TABLE variables (
    environ TEXT PRIMARY KEY,        -- digest of the environment, as in spec
    record TEXT NOT NULL
) STRICT;

-- What a host was when something was launched there: one row for each thing that any host ever was.
CREATE TABLE facts (
    digest TEXT PRIMARY KEY,
    record TEXT NOT NULL
) STRICT;
