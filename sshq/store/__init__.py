"""The controller's SQLite store: one writer, WAL, synchronous=FULL."""
