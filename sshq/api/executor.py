"""Executor: `concurrent.futures.Executor` whose calls are jobs; and `@sshq.job`, which gives one function such calls."""

import concurrent.futures
import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import ModuleType
from typing import Any, Generic, ParamSpec, TypeVar

from sshq.api.calls import finish_call, make_need, write_script
from sshq.api.client import Client
from sshq.api.jobs import Job
from sshq.api.proof import find_own_cwd, make_folder, remove_private, stand_in
from sshq.api.ship import names_of, pack_modules
from sshq.api.words import build, format_options
from sshq.core.pythons import write_need
from sshq.errors import OptionError, UserError

P = ParamSpec("P")
T = TypeVar("T")
Call = tuple[tuple[Any, ...], dict[str, Any]]
FOLDER = ".sshq"


class Executor(concurrent.futures.Executor):
    """Runs functions as jobs of the queue: on another machine, in another process, after this one has ended if need be.

    As a context it waits for its calls at its end.  Left by an exception, Ctrl-C for example, it cancels those that are not
    over; without `with`, jobs go on when this process ends.  `asyncio.wrap_future(executor.submit(…))` works as with any
    executor.  After a fork the child submits and waits for jobs of its own; its parent's stay its parent's.

    Args:
        client: the way to the controller; default: a new one.
        folder: for outputs and results, made with mode 0700; in the working directory, so that hosts that share that share this.
        python: path of the interpreter on the nodes; default: `sshq_python` of the inventory, else this process's own (of its
            virtual environment, too) where it exists there, else a `python3` that can read the call.
        requires: what must be installed there: `["numpy>=1.20"]`.  Hosts are asked before a call is queued, it goes only to
            those that fit; if none does, `submit` says what each has.
        ship: modules (or paths of .py files and packages) whose source travels with each call: pure Python, to 2 MiB packed.
        options: sbatch's, for each call: `time="10:00", gpus=1`; see `Client.submit`.

    """

    def __init__(
        self, *, client: Client | None = None, folder: "str | os.PathLike[str]" = FOLDER, python: str | None = None,
        requires: Sequence[str] = (), ship: "Sequence[ModuleType | str | os.PathLike[str]]" = (), **options: Any,
    ) -> None:  # fmt: skip
        for name in ("array", "wrap", "output", "error"):
            if name in options:
                raise OptionError(f"{name} is what the Executor sets itself", source=name)
        build(format_options(options), b"#!/bin/sh\n")  # wrong ones are told now, not at the first call
        self.client = client or Client()
        self.folder = os.path.join(find_own_cwd(), os.fspath(folder))
        self._there = stand_in(self.folder)  # where jobs find it
        self._travel: dict[str, Any] = {"python": python, "requires": requires, "shipment": "", "shipped": ()}
        make_need(python, requires, by_value=False)
        if ship:
            self._travel |= {"shipment": pack_modules(ship), "shipped": names_of(ship)}
        self._options = options
        self._jobs: set[Job] = set()
        self._owner = os.getpid()
        self._shut = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Job:
        """Submit one call and return it as a job, whose result is what `fn` returns.

        Raises:
            UserError: function or arguments cannot be pickled.
            RefusedError: the controller said no: an option cannot be, or no host has the Python that the call needs.

        """
        return self._submit(fn, [(args, kwargs)], array=None)[0]

    def map_array(self, fn: Callable[..., T], /, *iterables: Iterable[Any], throttle: int | None = None) -> list[Job]:
        """Submit one job array, a task for each set of arguments, and return its jobs in their order.

        Args:
            fn: called with one item of each iterable, until the shortest ends.
            iterables: read whole at once.
            throttle: so many tasks at a time at most.

        """
        calls: list[Call] = [(args, {}) for args in zip(*iterables, strict=False)]
        if not calls:
            return []
        return self._submit(fn, calls, array=f"0-{len(calls) - 1}" + (f"%{throttle}" if throttle else ""))

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[T]:
        """Yield the results in the order of the arguments, as `Executor.map`; `chunksize` calls share a task of one array.

        Raises:
            TimeoutError: a result is not there `timeout` seconds after this call.

        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        ends_at = None if timeout is None else time.monotonic() + timeout
        calls = list(zip(*iterables, strict=False))
        chunks = [calls[start : start + chunksize] for start in range(0, len(calls), chunksize)]
        chunked = chunksize > 1
        jobs = self.map_array(partial(_call_chunk, fn), chunks) if chunked else self.map_array(fn, *zip(*calls, strict=True))
        return self._results(jobs, ends_at, chunked=chunked)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for all calls; but if the block is left by an exception (Ctrl-C, too), cancel them and wait for nothing."""
        if kind is None:
            self.shutdown(wait=True)
            return
        self._shut = True
        left = self._list_open()
        if left:
            self.client.cancel(left)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; with `wait`, until all are over; with `cancel_futures`, end those that have not started."""
        self._shut = True
        jobs = self._list_open()
        pending = [job for job in jobs if job.state == "PENDING"] if cancel_futures else []
        if pending:
            self.client.cancel(pending)
        if wait:
            concurrent.futures.wait(jobs)

    def _list_open(self) -> list[Job]:
        """Return the jobs of this process that are not over; after a fork its parent's are neither waited for nor cancelled."""
        if self._owner != os.getpid():
            self._owner, self._jobs = os.getpid(), set()
        return [job for job in list(self._jobs) if not job.done()]  # a copy: jobs leave the set as they end, in another thread

    def _submit(self, fn: Callable[..., Any], calls: list[Call], array: str | None) -> list[Job]:
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        token = os.urandom(12).hex()
        self._make_folder()
        name = getattr(fn, "__name__", None) or getattr(getattr(fn, "func", None), "__name__", "call")
        options: dict[str, Any] = {"job_name": name} | self._options
        options["output"] = os.path.join(self._there, "%j.out" if array is None else "%A_%a.out")
        script, need, large = write_script(fn, calls, folder=self._there, token=token, **self._travel)
        stem = os.path.join(self._there, token)
        try:
            submission = build(format_options(options | {"array": array}), script)
            if large is not None and self._there == self.folder:
                submission.stage_in = [*submission.stage_in, large]
            submission.description |= {
                "kind": "callable", "command": name, "python": write_need(need),
                "result": f"{_escape(stem)}.result" if array is None else f"{_escape(stem)}_%a.result",
            }  # fmt: skip
            if array is None:
                jobs = [self.client.submit_read(submission, finish=partial(finish_call, f"{stem}.result"))]
            else:
                jobs = self.client.submit_tasks(submission, finish=partial(_finish_task, stem))
        except UserError as error:
            # Refused for good; of all else nobody knows whether it was taken, and the job would miss its file.
            if large is not None and getattr(error, "code", "") != "internal":
                remove_private(large)
            raise
        self._list_open()  # whose jobs these are
        self._jobs.update(jobs)
        left = set(jobs)
        for job in jobs:
            job.add_done_callback(partial(self._forget, left, large))
        return jobs

    def _forget(self, left: set[Job], large: str | None, job: concurrent.futures.Future[Any]) -> None:
        self._jobs.discard(job)
        left.discard(job)
        if large is not None and not left:
            remove_private(large)

    def _results(self, jobs: list[Job], ends_at: float | None, *, chunked: bool) -> Iterator[Any]:
        try:
            for job in jobs:
                value = job.result(None if ends_at is None else max(0.0, ends_at - time.monotonic()))
                if chunked:
                    yield from value
                else:
                    yield value
        finally:
            left = [job for job in jobs if not job.done()]
            if left:
                self.client.cancel(left)

    def _make_folder(self) -> None:
        if self._there != self.folder:
            make_folder(self._there)
        try:
            os.makedirs(self.folder, mode=0o700)
        except FileExistsError:
            return
        with open(os.path.join(self.folder, ".gitignore"), "w", encoding="ascii") as file:
            file.write("*\n")


def _finish_task(stem: str, job: Job, ending: Any) -> object:
    return finish_call(f"{stem}_{job.array_task_id}.result", job, ending)


def _call_chunk(fn: Callable[..., Any], chunk: list[tuple[Any, ...]]) -> list[Any]:
    return [fn(*args) for args in chunk]


def _escape(path: str) -> str:
    return path.replace("%", "%%")


class JobFunction(Generic[P, T]):
    """A function that can also be submitted; called, it runs here as ever."""

    def __init__(self, function: Callable[P, T], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._options = options
        self._executor: Executor | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_plain, (self._function,))  # on a node it is the function

    @property
    def executor(self) -> Executor:
        """What its calls are submitted by."""
        if self._executor is None:
            self._executor = Executor(**self._options)
        return self._executor

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Submit one call; the job's result is what the function returns."""
        return self.executor.submit(self._function, *args, **kwargs)

    def map_array(self, *iterables: Iterable[Any], throttle: int | None = None) -> list[Job]:
        """Submit one array with a task for each set of arguments."""
        return self.executor.map_array(self._function, *iterables, throttle=throttle)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def job(**options: Any) -> Callable[[Callable[P, T]], JobFunction[P, T]]:
    """Make a function submittable: `@sshq.job(time="10:00", gpus=1)`, then `train.submit(3).result()`.

    The options are those of `Executor`.
    """

    def decorate(function: Callable[P, T]) -> JobFunction[P, T]:
        return JobFunction(function, options)

    return decorate
