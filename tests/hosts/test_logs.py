"""Output of jobs followed from hosts that share nothing, and the exit codes of the waiting commands."""
