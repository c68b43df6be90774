-- sacct asks by the name of a user; by the number only where a number was given.

DROP INDEX job_uid;
CREATE INDEX job_user ON job (user, until_at);
