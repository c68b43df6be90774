-- What administrators arranged beside the inventory: changed partitions, reservations.

CREATE TABLE arrangement (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;
