"""Pool: `multiprocessing.Pool` whose processes live in jobs on the hosts of the queue, for thousands of small calls.

A worker that is lost (its node, its process) gives back the calls it had; they run again elsewhere, so a call may run more than
once, and a new worker is submitted in its place.  `Pool.losses` and the log say what was lost and when.
"""

import base64
import contextlib
import itertools
import logging
import os
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

from sshq.api.calls import PICKLE_PROTOCOL, by_value_modules, make_need, pack
from sshq.api.client import Client
from sshq.api.poolresults import AsyncResult, Chunk, ResultIterator, Take, WorkerLostError
from sshq.api.proof import find_cwd
from sshq.api.ship import names_of, pack_modules
from sshq.api.words import build, format_options
from sshq.api.worker import PIECE_BYTES, Worker
from sshq.core.hostlist import expand_hostlist
from sshq.core.pythons import write_need
from sshq.errors import OptionError, SshqError

log = logging.getLogger("sshq")
SUBMIT_S = 15.0
LOOK_S = 5.0  # between looks at hosts that are silent
TRIES_MAX = 3  # of a chunk whose workers were lost
AHEAD, AHEAD_MIN = 64, 128  # chunks that `imap` reads ahead of what was taken: for each worker, and at least
PLAIN = frozenset({int, float, str, bytes, bool, type(None)})
Call = tuple[tuple[Any, ...], dict[str, Any]]


class Pool:
    """Long-lived Python processes on the hosts of the queue, with `multiprocessing.Pool`'s methods.

    Args:
        slots: how many processes; each is a job of one task, which starts when there is room for it.
        hosts: the hosts to use, in turn: a list, or as sinfo writes them, "ws[1-3]"; default: wherever there is room.
        initializer, initargs: called once in each process.
        maxtasksperchild: chunks after which a process is replaced by a new one in the same job; default: never.
        away_s: seconds after which a host that is cut off counts as lost, with the calls it had; None: they wait for it.
        client, python, requires, ship: as for `Executor`.
        options: sbatch's, for each process: `time="1:00:00", cpus=2, memory="4G", gpus=1`.

    Attributes:
        losses: a line for each worker that was lost.

    """

    def __init__(
        self, slots: int | None = None, *, hosts: Sequence[str] | str | None = None,
        initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = (), maxtasksperchild: int | None = None,
        away_s: float | None = 60.0, client: Client | None = None, python: str | None = None, requires: Sequence[str] = (),
        ship: "Sequence[ModuleType | str | os.PathLike[str]]" = (), **options: Any,
    ) -> None:  # fmt: skip
        hosts = expand_hostlist(hosts) if isinstance(hosts, str) else hosts
        self.client = client or Client()
        self.need = make_need(python, requires, by_value=True)
        self.shipment, self._shipped = (pack_modules(ship), names_of(ship)) if ship else ("", set())
        self.work_dir = find_cwd()
        self.losses: list[str] = []
        self._slots = slots if slots is not None else len(hosts) if hosts else os.cpu_count() or 1
        if self._slots < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild < 1):
            raise ValueError("maxtasksperchild must be a positive int or None")
        self.maxtasksperchild = maxtasksperchild
        self._hosts = list(hosts or ())
        self._options = {"job_name": "pool", "output": "/dev/null"} | options
        for name in ("array", "wrap", "nodelist", "nodes", "ntasks"):
            if name in options:
                raise OptionError(f"{name} is what the Pool sets itself", source=name)
        with by_value_modules(self._shipped):
            packed = pack((initializer, tuple(initargs)), "the initializer") if initializer else b""
        self.initializer = base64.b64encode(packed).decode()
        self._condition = threading.Condition()
        self._todo: deque[Chunk] = deque()
        self._numbers = itertools.count()
        self._functions: dict[bytes, int] = {}
        self._open = 0  # chunks that have not ended
        self._closed = self._ended = False
        self._adding = 0  # workers that are being submitted in place of lost ones
        self._replacements = 2 * self._slots + 2
        self._broken: BaseException | None = None
        self._workers: list[Worker] = []
        self._owner = os.getpid()
        for number in range(self._slots):
            self._add_worker(number)
        if away_s is not None:
            threading.Thread(target=self._watch_hosts, args=(away_s,), name="sshq-pool-hosts", daemon=True).start()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        if self._owner == os.getpid():  # a child that was forked in the block ends nothing of its parent's
            self.terminate()

    def _add_worker(self, number: int) -> None:
        where = {"nodelist": self._hosts[number % len(self._hosts)]} if self._hosts else {}
        submission = build(format_options(self._options | where), b"#!/bin/sh\n# a worker of sshq.Pool\n")
        submission.description |= {
            "kind": "allocation", "command": "sshq.Pool", "requeue": False, "python": write_need(self.need),
        }  # fmt: skip
        job = self.client.submit_read(submission)
        with self._condition:
            ended = self._ended
            if not ended:
                self._workers.append(Worker(self, job, number))
        if ended:  # while it was submitted
            self.client.cancel([job])

    # ---- multiprocessing.Pool's methods ----------------------------------------------------------------------

    def apply(self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: dict[str, Any] | None = None) -> Any:
        """Call once and return the result."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: dict[str, Any] | None = None,
        callback: Callable[[Any], object] | None = None, error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:  # fmt: skip
        """Call once; the result comes later."""
        return self._gather(func, [(tuple(args), kwds or {})], 1, single=True, callback=callback, error_callback=error_callback)

    def map(self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = None) -> list[Any]:
        """Return the results in the order of the items."""
        return list(self.map_async(func, iterable, chunksize).get())

    def map_async(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None, error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:  # fmt: skip
        """As `map`; the result comes later."""
        calls: list[Call] = [((item,), {}) for item in iterable]
        return self._gather(func, calls, chunksize, callback=callback, error_callback=error_callback)

    def starmap(self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None) -> list[Any]:
        """As `map`, each item the arguments of a call."""
        return list(self.starmap_async(func, iterable, chunksize).get())

    def starmap_async(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None, error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:  # fmt: skip
        """As `starmap`; the result comes later."""
        calls: list[Call] = [(tuple(item), {}) for item in iterable]
        return self._gather(func, calls, chunksize, callback=callback, error_callback=error_callback)

    def imap(self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int = 1) -> ResultIterator:
        """Yield the results in order, each as soon as it and all before it are there.

        The iterable is read as results are taken: some hundred chunks ahead of them, not more.
        """
        return self._iterate(func, iterable, chunksize, ordered=True)

    def imap_unordered(self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int = 1) -> ResultIterator:
        """Yield the results as they come; the iterable is read as for `imap`."""
        return self._iterate(func, iterable, chunksize, ordered=False)

    def _iterate(self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int, *, ordered: bool) -> ResultIterator:
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize}")
        items = iter(iterable)
        function_id, packed = self._keep_function(func)

        def put(number: int, take: Take) -> bool:
            calls: list[Call] = [((item,), {}) for item in itertools.islice(items, chunksize)]
            if calls:
                self._put(function_id, packed, [calls], lambda _, results, error: take(number, results, error))
            return bool(calls)

        return ResultIterator(put, max(AHEAD_MIN, AHEAD * self._slots), ordered=ordered)

    def close(self) -> None:
        """Take no more calls; the workers end when all are done."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def terminate(self) -> None:
        """End all workers now; calls that are not done raise."""
        with self._condition:
            self._closed = self._ended = True
            left, workers = list(self._todo), list(self._workers)
            self._todo.clear()
            self._condition.notify_all()
        for chunk in left:
            chunk.fail(WorkerLostError("the pool was terminated"))
        with self._condition:  # or a worker that is being submitted would stay when this process ends
            self._condition.wait_for(lambda: not self._adding, SUBMIT_S)
        alive = [worker.job for worker in workers if not worker.job.done()]
        if alive:
            self.client.cancel(alive)

    def join(self, timeout: float | None = None) -> None:
        """Wait until all workers have ended, after `close` or `terminate`.

        Raises:
            ValueError: the pool still runs.

        """
        if not self._closed:
            raise ValueError("Pool is still running")
        ends_at = None if timeout is None else time.monotonic() + timeout
        for worker in list(self._workers):
            worker.job.wait(None if ends_at is None else max(0.0, ends_at - time.monotonic()))

    # ---- calls to chunks -------------------------------------------------------------------------------------

    def _gather(
        self, func: Callable[..., Any], calls: list[Call], chunksize: int | None, *, single: bool = False,
        callback: Callable[[Any], object] | None = None, error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:  # fmt: skip
        parts = _split(calls, chunksize or max(1, -(-len(calls) // (self._slots * 4))))
        function_id, packed = self._keep_function(func)
        result = AsyncResult(len(parts), single=single, callback=callback, error_callback=error_callback)
        self._put(function_id, packed, parts, result.take)
        return result

    def _keep_function(self, func: Callable[..., Any]) -> tuple[int, bytes]:
        with by_value_modules(self._shipped):
            function = pack(func, "the function")
        with self._condition:
            return self._functions.setdefault(function, len(self._functions)), function

    def _put(self, function_id: int, function: bytes, parts: list[list[Call]], take: Take) -> None:
        if all(_is_plain(part) for part in parts):
            packed = [pickle.dumps(part, PICKLE_PROTOCOL) for part in parts]
        else:
            with by_value_modules(self._shipped):
                packed = [pack(part, "the arguments") for part in parts]
        with self._condition:
            if self._broken is not None:
                raise self._broken
            if self._owner != os.getpid():  # its threads are not here, so nobody would bring a result
                raise ValueError("this pool is the parent's: make one in the process that uses it")
            if self._closed:
                raise ValueError("Pool not running")
            for index, calls in enumerate(packed):
                self._todo.append(Chunk(next(self._numbers), function_id, function, calls, self._ending(index, take)))
            self._open += len(packed)
            self._condition.notify_all()

    def _ending(self, index: int, take: Take) -> Callable[[Any, BaseException | None], None]:
        def done(results: Any, error: BaseException | None) -> None:
            with self._condition:
                self._open -= 1
                if not self._open:
                    self._condition.notify_all()
            take(index, results, error)

        return done

    # ---- the workers' side -----------------------------------------------------------------------------------

    def next_chunks(self, worker: Worker) -> list[Chunk]:
        """Return what a worker shall do next, once it may have more; nothing: nothing will come.

        As many as it does in a moment go together, but not more than its part of what is left: the last ones are for all.
        """
        with self._condition:
            while True:
                if self._ended or self._broken is not None or worker.job.done():
                    return []
                if self._todo:
                    fair = -(-len(self._todo) // (2 * self._slots))
                    room = min(worker.capacity(self._todo[0].function_id), fair) - worker.load
                    # Half of its room at least, or a word would go out for each call that ends.
                    if room > 0 and room >= worker.load:
                        return self._take_some(room)
                if self._closed and not self._open:
                    return []
                self._condition.wait(1.0)

    def _take_some(self, count: int) -> list[Chunk]:
        taken = [self._todo.popleft()]
        size = len(taken[0].calls)
        while self._todo and len(taken) < count and self._todo[0].function_id == taken[0].function_id:
            size += len(self._todo[0].calls)
            if size > PIECE_BYTES:
                break
            taken.append(self._todo.popleft())
        return taken

    def wake(self) -> None:
        """A worker has room for more."""
        with self._condition:
            self._condition.notify_all()

    def give_back(self, chunks: list[Chunk]) -> None:
        """Put back what a worker could not do, before all else."""
        with self._condition:
            self._todo.extendleft(reversed(chunks))
            self._condition.notify_all()

    def break_off(self, error: BaseException) -> None:
        """An initializer failed: nothing can be called, now or later."""
        with self._condition:
            self._broken = self._broken or error
            left = list(self._todo)
            self._todo.clear()
            self._condition.notify_all()
        for chunk in left:
            chunk.fail(error)

    def note_loss(self, worker: Worker, left: list[Chunk], why: str) -> None:
        """A worker is gone; what it had runs again elsewhere."""
        if self._ended or (self._closed and not self._open):
            for chunk in left:
                chunk.fail(WorkerLostError("the pool was terminated"))
            return
        words = worker.last_words().strip().splitlines()
        where = worker.job.node or "no host yet"
        line = f"worker {worker.number} (job {worker.job.job_id} on {where}) was lost with {len(left)} chunks: {why}"
        self.losses.append(line)
        log.warning("sshq: %s%s", line, f"; it said last: {words[-1]}" if words else "")
        again = []
        for place, chunk in enumerate(left):
            chunk.tries += place == 0  # a worker takes them in order: the others had not begun
            if chunk.tries >= TRIES_MAX:
                text = f"{chunk.tries} workers were lost with this call; the last: {line}"
                chunk.fail(WorkerLostError(text, detail=tuple(words[-5:])))
            else:
                again.append(chunk)
        self.give_back(again)
        if not worker.job.done():
            worker.give_up_place()
        self._replace(worker, line, words)

    def _watch_hosts(self, away_s: float) -> None:
        """Give up workers whose hosts have been cut off for so long; asks only where one is silent that has something to do."""
        away_since: dict[Worker, float] = {}
        pause_s = min(LOOK_S, max(0.2, away_s / 4))
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._ended or (self._closed and not self._open), pause_s)
                if self._ended or self._broken is not None or (self._closed and not self._open):
                    return
                silent = [one for one in self._workers if one.load and time.monotonic() - one.heard_at > pause_s]
            cut_off: set[object] = set()
            if silent:
                with contextlib.suppress(SshqError):
                    cut_off = {node.get("name") for node in self.client.nodes() if node.get("unreachable")}
            now = time.monotonic()
            away_since = {one: away_since.get(one, now) for one in silent if one.job.node in cut_off}
            for worker, since in away_since.items():
                if now - since >= away_s:
                    worker.abandon(f"its host has been unreachable for {now - since:.0f} s")

    def _replace(self, worker: Worker, line: str, words: list[str]) -> None:
        with self._condition:
            self._replacements -= 1
            possible = self._replacements >= 0 and not self._ended
            self._adding += possible
        if possible:
            try:
                self._add_worker(worker.number)
                return
            except SshqError as error:
                line = f"{line}; no other could be submitted: {error.message}"
            finally:
                with self._condition:
                    self._adding -= 1
                    self._condition.notify_all()
        with self._condition:
            self._workers = [one for one in self._workers if one is not worker]
            alive = any(not one.job.done() for one in self._workers)
        if not alive:
            self.break_off(WorkerLostError(f"no worker is left; the last: {line}", detail=tuple(words[-5:])))


def _split(calls: list[Call], size: int) -> list[list[Call]]:
    return [calls[start : start + size] for start in range(0, len(calls), size)]


def _is_plain(calls: list[Call]) -> bool:
    """Whether a part of calls holds nothing but numbers and texts, which need no more than pickle."""
    return all(not kwargs and all(type(one) in PLAIN for one in args) for args, kwargs in calls)
