"""The controller's SQLite store: one writer, WAL, synchronous=FULL.

`jobs` is the way in (`Store`); `database` opens the file or says why not; `records` turns dataclasses into
text and back; `history` answers sacct; `environ` keeps environments, which never enter the database.
"""
