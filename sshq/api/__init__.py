"""The library for Python users: sync, typed, no asyncssh."""
