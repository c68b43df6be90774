"""The thread that hears what becomes of jobs: one connection for all jobs of a client, told by the controller, never polled.

A controller that is away changes nothing about a job: the thread connects again, and asks once for all that is still open.
"""

import logging
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sshq.errors import SshqError, UnreachableError
from sshq.wire.client import Client as Wire

if TYPE_CHECKING:
    from sshq.api.jobs import Job

log = logging.getLogger("sshq")
PAUSE_S = 0.5
Key = tuple[int, int | None]  # the job's number (of an array: the array's), the task
_all: "weakref.WeakSet[Watcher]" = weakref.WeakSet()


class Watcher:
    """Ends futures as their jobs end; its thread lives while there are any."""

    def __init__(self, connect: Callable[[], Wire]) -> None:
        self._connect = connect
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        """Begin anew: also in a child, where the thread is not, and whose parent's jobs are the parent's."""
        self._lock = threading.Lock()
        self._jobs: dict[Key, Job] = {}
        self._thread: threading.Thread | None = None
        self._listening = threading.Event()
        self._wire: Wire | None = None
        self._fault: SshqError | None = None
        self._ender: threading.Thread | None = None
        self._order = threading.RLock()  # news are taken in one at a time, in their order
        self._times_listened = 0
        self._expecting = 0  # submissions under way
        self._early: dict[tuple[Key, ...], dict[str, Any]] = {}  # the last word on jobs nobody has claimed yet
        self._ended: queue.SimpleQueue[tuple[Job, dict[str, Any]]] = queue.SimpleQueue()

    def prepare(self, patience_s: float = 10.0) -> None:
        """Begin to listen, so that nothing that is submitted afterwards is missed.

        Raises:
            SshqError: the controller cannot be asked.

        """
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._listening.clear()
                self._fault = None
                self._thread = threading.Thread(target=self._run, name="sshq-events", daemon=True)
                self._thread.start()
        self._listening.wait(patience_s)
        if self._fault is not None:
            raise self._fault

    @contextmanager
    def expecting(self) -> "Iterator[Callable[[list[Job]], None]]":
        """Begin to listen for jobs that are submitted meanwhile; give what takes them under watch.

        Their news may be here before their numbers are, so what is told of unknown jobs is kept until then.

        Raises:
            SshqError: the controller cannot be asked.

        """
        self.prepare()
        with self._lock:
            self._expecting += 1
            listened = self._times_listened
        try:
            yield lambda jobs: self._claim(jobs, listened)
        finally:
            with self._lock:
                self._expecting -= 1
                if not self._expecting:
                    self._early.clear()

    def _claim(self, jobs: "list[Job]", listened: int) -> None:
        with self._order:
            with self._lock:
                self._jobs |= {(job.job_id, job.array_task_id): job for job in jobs}
                early = list(self._early.values())
                missed = self._times_listened != listened  # told to nobody, while we were not connected
                stopped = self._thread is None
            for item in early:
                self._take(item)
        if stopped:
            self.prepare()
        if missed or stopped:
            self.add(jobs)

    def add(self, jobs: "list[Job]") -> None:
        """Take jobs under watch; what happened before is asked for."""
        with self._lock:
            self._jobs |= {(job.job_id, job.array_task_id): job for job in jobs}
        try:
            with self._connect() as wire:
                self._catch_up(wire, [job.job_id for job in jobs])
        except UnreachableError:
            pass  # the thread asks for all that is open when it is back

    def close(self) -> None:
        """Stop listening; jobs go on, their futures stay as they are."""
        with self._lock:
            self._jobs.clear()
            if self._wire is not None:
                self._wire.hang_up()

    # ---- the thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        told = False
        while True:
            try:
                self._listen()
            except UnreachableError as error:
                if not self._listening.is_set():
                    self._fail(error)
                    return
                if not told and self._jobs:
                    log.warning("sshq: %s; %d jobs are waited for", error.detail[0] if error.detail else error, len(self._jobs))
                told = True
            except SshqError as error:
                self._fail(error)
                return
            except Exception as error:  # whoever waits would wait for ever
                log.exception("sshq: news of jobs that cannot be taken in")
                self._fail(SshqError(f"what the controller told of jobs cannot be taken in: {type(error).__name__}: {error}"))
                return
            else:
                told = False
            with self._lock:
                if not self._jobs and not self._expecting:
                    self._thread = None
                    return
            time.sleep(PAUSE_S)

    def _fail(self, error: SshqError) -> None:
        """Nobody will tell of these jobs any more: say so to whoever waits for them."""
        with self._lock:
            self._thread = None
            self._fault = error
            jobs, self._jobs = list(self._jobs.values()), {}
        self._listening.set()
        for job in jobs:
            if not job.done():
                job.set_exception(error)

    def _listen(self) -> None:
        with self._connect() as wire:
            self._wire = wire
            for item in wire.stream("events", {"brief": True}, timeout_s=None):
                if item.get("event") == "listening":
                    with self._lock:
                        self._times_listened += 1
                        open_ids = sorted({job_id for job_id, _ in self._jobs})
                    self._listening.set()
                    if open_ids:
                        with self._connect() as other:
                            self._catch_up(other, open_ids)
                elif item.get("event") == "gone":
                    with self._connect() as other:
                        self._look_back(other, [int(str(item["job_id"]))])
                else:
                    self._take(item)

    def _take(self, item: dict[str, Any]) -> None:
        view = item["job"]
        with self._order:
            for job in self._meant(view, item):
                job.take(view)
                if item.get("over"):
                    self._end(job, view)

    def _meant(self, view: dict[str, Any], item: dict[str, Any]) -> "list[Job]":
        task = view.get("array_task_id")
        keys: list[Key] = [(view["job_id"], None), (view.get("array_job_id") or view["job_id"], task)]
        with self._lock:
            found = [self._jobs[key] for key in dict.fromkeys(keys) if key in self._jobs]
            if self._expecting and not found:
                self._early[tuple(keys)] = item
            if view.get("array_tasks") is not None and view["state"] != "PENDING":  # tasks that ended without ever starting
                from sshq.core.arrays import parse_array

                indices = parse_array(str(view["array_tasks"]).partition("%")[0]).index_set()
                array = view.get("array_job_id") or view["job_id"]
                found += [self._jobs[array, index] for index in indices if (array, index) in self._jobs]
            return found

    def _end(self, job: "Job", view: dict[str, Any]) -> None:
        with self._lock:
            self._jobs.pop((job.job_id, job.array_task_id), None)
            if self._ender is None:
                self._ender = threading.Thread(target=self._end_jobs, name="sshq-ends", daemon=True)
                self._ender.start()
        self._ended.put((job, view))

    def _end_jobs(self) -> None:
        """Fulfil futures: that may read files, ask, or call back, which the thread that listens must never wait for."""
        while True:
            job, view = self._ended.get()
            try:
                job.end(view)
            except Exception as error:
                log.exception("sshq: job %s ended, and its future could not be fulfilled", job.job_id)
                if not job.done():
                    job.set_exception(error)

    def _catch_up(self, wire: Wire, job_ids: list[int]) -> None:
        ids = list(dict.fromkeys(job_ids))
        stream = wire.stream("jobs", {"filter": {"refs": [[one, None] for one in ids]}, "finished": True})
        for view in stream:
            over = view.get("state") in _FINAL and not view.get("completing")
            self._take({"job": view, "over": over})
        unknown = stream.result.get("unknown_ids")
        if isinstance(unknown, list) and unknown:
            self._look_back(wire, [int(one) for one in unknown])

    def _look_back(self, wire: Wire, job_ids: list[int]) -> None:
        refs = [[one, None] for one in job_ids]
        for view in wire.stream("history", {"filter": {"refs": refs}, "start_at": None, "end_at": None}):
            if view.get("state") in _FINAL:
                self._take({"job": view, "over": True})


_FINAL = frozenset(
    {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "DEADLINE", "BOOT_FAIL"}
)


def _forget_parent() -> None:
    for watcher in list(_all):
        watcher._reset()  # noqa: SLF001


os.register_at_fork(after_in_child=_forget_parent)
