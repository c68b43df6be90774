"""Client: submit, cancel, list and follow jobs from Python; what the commands do, with futures in place of numbers."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from sshq.api.batch import JOBS_MAX, RefusedBatchError, submit_batch, with_files
from sshq.api.jobs import Finisher, Job
from sshq.api.patience import submit_patiently
from sshq.api.proof import describe_directory, submit_proved
from sshq.api.staging import has_files, stage_files
from sshq.api.watch import Watcher
from sshq.api.words import read_many, read_script
from sshq.core.ids import JobRef, parse_job_ids
from sshq.errors import OptionError, RefusedError, SshqError, UserError
from sshq.slurm.many import Prepared, split_parts
from sshq.slurm.submit import Submission
from sshq.wire.client import Client as Wire
from sshq.wire.client import connect, find_head

log = logging.getLogger("sshq")
Object = dict[str, Any]


class Client:
    """A way to the controller: that of $SSHQ_HEAD, of $SSHQ_HOME, the user's own, or the system-wide one, as for the commands.

    It needs no closing; `close` and `with` are there for who wants its thread and connection gone at once.  Threads may share it.

    Raises:
        UnreachableError: by any method: nobody answers.  Jobs go on all the same.
        RefusedError: by any method: the controller said no; `code` is a word for programs.

    """

    def __init__(self, *, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        mine, ours = find_head(self._environ), find_head(os.environ)
        if (mine and mine.name) != (ours and ours.name):
            raise UserError("SSHQ_HEAD is taken from this process's own environment", hint="os.environ['SSHQ_HEAD'] = …")
        self._watcher = Watcher(self.connect)

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_client, (None if self._environ is os.environ else dict(self._environ),)  # its jobs stay here

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection.  Jobs go on; futures that are not done stay so."""
        self._watcher.close()
        if find_head(self._environ) is not None:
            from sshq.wire.away import drop_idle

            drop_idle()

    def connect(self) -> Wire:
        """Return a connection of the socket's own protocol, for what has no method here."""
        return connect(self._environ)

    # ---- submitting ------------------------------------------------------------------------------------------

    def submit(
        self, script: "str | os.PathLike[str] | Sequence[str]", *args: str, **options: Any
    ) -> Job:
        """Submit one job and return it as a future.

        Args:
            script: the path of a script; or its text (it begins with #! or has several lines); or a list, which is a command.
            args: arguments of the script.
            options: sbatch's by their long names: `time="1:00:00", cpus_per_task=4, partition=["a", "b"], exclusive=True`;
                and name, cpus, tasks, memory, cwd as plain words for --job-name, --cpus-per-task, --ntasks, --mem, --chdir.
                `sync="."` and `stage_in=["data/x.npy"]` take files along, as they are now.

        Raises:
            OptionError: an option or the script, in sbatch's words.

        """
        submission = read_script(script, args, options)
        if submission.description["array"] is not None:
            raise OptionError("this is a job array", hint="Client.submit_array gives a future for each of its tasks")
        return self.submit_read(submission)

    def submit_array(
        self, script: "str | os.PathLike[str] | Sequence[str]", *args: str, array: str | None = None, **options: Any
    ) -> list[Job]:
        """Submit a job array and return a future for each of its tasks; `array` as for sbatch: "0-9", "1,3,5%2"."""
        submission = read_script(script, args, options | {"array": array})
        indices = submission.description["array"]
        if indices is None:
            raise OptionError("this is no job array", hint='submit_array(script, array="0-9")')
        return self.submit_tasks(submission)

    def submit_many(
        self, scripts: "Iterable[str | os.PathLike[str] | Sequence[str]]", **options: Any
    ) -> list[Job]:
        """Submit many jobs, all or none: some thousand a second; `scripts` and `options` as for `submit`.

        They are taken ten thousand at a time, each ten thousand in one transaction.

        Raises:
            RefusedError: some were refused, and the first is named; none was taken of these ten thousand, `jobs` has the futures
                of those before.

        """
        if isinstance(scripts, str):  # it would be read letter by letter
            raise OptionError("submit_many takes a list of scripts, not one", hint="Client.submit")
        read = with_files(_refuse_arrays(read_many(scripts, options)), self.connect, self._environ)
        jobs: list[Job] = []
        with self._watcher.expecting() as claim:
            for one in read:  # the first of each batch
                try:
                    taken = submit_batch(self.connect, split_parts(chain([one], islice(read, JOBS_MAX - 1))))
                except RefusedBatchError as error:
                    raise _refuse_many(error, len(jobs), jobs) from None
                made = [Job(self, job_id) for job_id in taken.job_ids]
                claim(made)
                jobs += made
        return jobs

    def submit_read(self, submission: Submission, *, finish: Finisher | None = None) -> Job:
        """Submit what `words.read_script` understood."""
        with self._watcher.expecting() as claim:
            job = Job(self, self._send(submission), finish=finish)
            claim([job])
        return job

    def submit_tasks(self, submission: Submission, *, finish: Finisher | None = None) -> list[Job]:
        """Submit an array that `words.read_script` understood."""
        from sshq.core.arrays import parse_array

        indices = sorted(parse_array(str(submission.description["array"])).index_set())
        with self._watcher.expecting() as claim:
            job_id = self._send(submission)
            jobs = [Job(self, job_id, index, finish=finish) for index in indices]
            claim(jobs)
        return jobs

    def _send(self, submission: Submission) -> int:
        if has_files(submission):
            stage_files(submission, self.connect, self._environ)
        params: Object = {
            "description": submission.description, "environ": submission.environ, "token": os.urandom(16).hex(),
            "directory": _describe_directory(submission),
        }  # fmt: skip
        reply = submit_patiently(self.connect, lambda wire, first: submit_proved(wire, {**params, "fresh": first}))
        return int(str(reply["job_id"]))

    # ---- jobs ------------------------------------------------------------------------------------------------

    def job(self, job: int | str) -> Job:
        """Return a future for a job that was submitted before, by whomever: 12, "12_4".

        Raises:
            RefusedError: nobody knows it.

        """
        ref = _read_ref(job)
        task = ref.tasks[0] if ref.tasks else None
        views = list(self.jobs(job, finished=True)) or list(self.history(job))
        if not views:
            raise RefusedError("Invalid job id specified", code="unknown_job", detail=(str(job),), hint="sshq squeue --me")
        self._watcher.prepare()
        found = Job(self, ref.job_id, task)
        self._watcher.add([found])
        return found

    def jobs(self, *jobs: "int | str | Job", finished: bool = False, **wanted: Sequence[str]) -> Iterator[Object]:
        """Yield the jobs of the queue as objects (the keys of `squeue --json` are Slurm's, these are sshq's own).

        Args:
            jobs: only these.
            finished: also those that are over and still in memory.
            wanted: lists: users, states, partitions, names, nodes, kinds, accounts, qos.

        """
        params: Object = {"filter": _filter(jobs) | {key: list(value) for key, value in wanted.items()}, "finished": finished}
        with self.connect() as wire:
            yield from wire.stream("jobs", params)

    def history(self, *jobs: "int | str | Job", start_at: float | None = None, end_at: float | None = None) -> Iterator[Object]:
        """Yield jobs from the history, as sacct reads it; times are seconds since the epoch, UTC."""
        with self.connect() as wire:
            yield from wire.stream("history", {"filter": _filter(jobs), "start_at": start_at, "end_at": end_at})

    def nodes(self) -> list[Object]:
        """Return the nodes: name, state, slots, CPUs, memory, partitions, and why one cannot be used."""
        with self.connect() as wire:
            reply = wire.call("info")
        nodes = reply.get("nodes")
        return [node for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []

    def events(self, *jobs: "int | str | Job") -> Iterator[Object]:
        """Yield each change of a job as it is stored: `{"event": "job", "over": bool, "job": {…}}`; ends with the controller."""
        with self.connect() as wire:
            yield from wire.stream("events", {"filter": _filter(jobs)}, timeout_s=None)

    def cancel(self, jobs: "Iterable[int | str | Job]", *, signal: int | None = None) -> None:
        """End jobs (TERM, after the grace KILL), or send them a signal; those that are over are passed over in silence."""
        refs = _filter(list(jobs))
        if refs:
            with self.connect() as wire:
                wire.call("cancel", {"filter": refs, "signal": signal})

    def bring_output(self, view: Mapping[str, Any]) -> Mapping[str, Any]:
        """Bring the output of a job that is over here, if the controller is elsewhere; return the view with paths of ours."""
        head = find_head(self._environ)
        if head is None:
            return view
        from sshq.api.away import bring_output, list_outputs

        here: Object = {}
        for source, target in list_outputs(head, view):
            try:
                bring_output(head, source, target)
            except FileNotFoundError:
                continue  # it wrote none
            except (OSError, SshqError) as error:
                number = view["job_id"]
                log.warning("sshq: output of job %s is not here yet: %s; later: sshq fetch %s", number, error, number)
                continue
            here |= {key: target for key in ("std_out", "std_err") if view.get(key) == source}
        if view.get("stage_out"):
            from sshq.api.staged import bring_staged

            try:
                bring_staged(head, view)
            except (OSError, SshqError) as error:
                number = view["job_id"]
                log.warning("sshq: files of job %s are not here yet: %s; later: sshq fetch %s", number, error, number)
        return {**view, **here}

    def read_output(self, job_id: int, task: int | None, stream: str, *, timeout_s: float | None = 60.0) -> str:
        """Return what a job has written so far to "out" or "err"."""
        params: Object = {"ref": [job_id, task], "stream": stream, "follow": False, "attempt": None, "offset": 0}
        with self.connect() as wire:
            data = b"".join(wire.data("logs", params, timeout_s=timeout_s))
        return data.decode("utf-8", "replace")


def _describe_directory(submission: Submission) -> Object | None:
    said = submission.description
    return describe_directory(str(said["work_dir"]), (said.get("std_out"), said.get("std_err")))


def _refuse_arrays(read: Iterator[Prepared]) -> Iterator[Prepared]:
    for number, one in enumerate(read):
        if one.base.description["array"] is not None:
            raise OptionError(f"submission {number} is a job array", hint="Client.submit_array takes it")
        yield one


def _refuse_many(error: RefusedBatchError, before: int, jobs: list[Job]) -> RefusedError:
    number, first = next(iter(error.refusals.items()))
    others = f" and {error.count - 1} more" if error.count > 1 else ""
    where = f"submission {before + number}{others}; {before} were taken"
    refusal = RefusedError(first.message, code=first.code, hint=first.hint, detail=(where, *first.detail))
    refusal.jobs = jobs  # type: ignore[attr-defined]
    return refusal


def _read_ref(job: "int | str | Job") -> JobRef:
    if isinstance(job, Job):
        return JobRef(job_id=job.job_id, tasks=None if job.array_task_id is None else (job.array_task_id,))
    try:
        return parse_job_ids(str(job))[0]
    except (ValueError, IndexError):
        raise OptionError(f"Invalid job id specified: {job!r}", hint="12, or 12_4 for a task of an array") from None


def _filter(jobs: "Sequence[int | str | Job]") -> Object:
    if not jobs:
        return {}
    refs = [_read_ref(job) for job in jobs]
    return {"refs": [[ref.job_id, list(ref.tasks) if ref.tasks is not None else None] for ref in refs]}


def _make_client(environ: Mapping[str, str] | None) -> Client:
    return Client(environ=environ)
