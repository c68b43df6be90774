"""The Python interface: `sshq.Client`, `sshq.Job`, `sshq.Executor`, `sshq.job`; reached through the package, lazily."""
