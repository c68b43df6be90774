"""sshq: a batch queue over plain sshd that feels like Slurm.

    import sshq

    client = sshq.Client()                                   # scripts and commands
    job = client.submit("train.sh", time="1:00:00", cpus_per_task=4)
    job.result()                                             # waits; raises sshq.JobFailedError

    with sshq.Executor(time="10:00") as executor:            # Python functions
        print(list(executor.map(pow, [2, 3], [10, 10])))

Everything is imported at its first use, so that `import sshq` costs nothing.
"""

__version__ = "0.1.0"

_PLACES = {
    "Client": "sshq.api.client", "Ending": "sshq.api.jobs", "Job": "sshq.api.jobs", "JobFailedError": "sshq.api.jobs",
    "RemoteError": "sshq.api.calls", "NoPythonError": "sshq.api.calls", "ResultError": "sshq.api.calls",
    "TimeLimitError": "sshq.api.jobs", "OutOfMemoryError": "sshq.api.jobs", "NodeLostError": "sshq.api.jobs",
    "Executor": "sshq.api.executor", "job": "sshq.api.executor",
    "Pool": "sshq.api.pool", "WorkerLostError": "sshq.api.poolresults",
    "SshqError": "sshq.errors", "UserError": "sshq.errors", "OptionError": "sshq.errors", "RefusedError": "sshq.errors",
    "UnreachableError": "sshq.errors",
}  # fmt: skip
__all__ = [
    "Client", "Ending", "Executor", "Job", "JobFailedError", "NoPythonError", "NodeLostError", "OptionError", "OutOfMemoryError",
    "Pool", "RefusedError", "RemoteError", "ResultError", "SshqError", "TimeLimitError", "UnreachableError", "UserError",
    "WorkerLostError", "__version__", "job",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name in _PLACES:
        import importlib

        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
