"""The commands: each module is one, and only these print."""
