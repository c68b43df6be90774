"""The daemon: wiring and concurrency, few decisions."""
