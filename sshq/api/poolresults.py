"""What a pool's calls come back as: chunks on their way, results that are waited for, and results that are gone through."""

import itertools
import logging
import pickle
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from sshq.api.calls import ResultError
from sshq.errors import SshqError

log = logging.getLogger("sshq")
Take = Callable[[int, Any, BaseException | None], None]  # a chunk's number, its results, or what was raised


class WorkerLostError(SshqError):
    """A call's workers were lost one after the other: it ends them, or the hosts do."""


class Chunk:
    """Some calls of one function that travel together."""

    __slots__ = ("calls", "done", "function", "function_id", "number", "tries")

    def __init__(
        self, number: int, function_id: int, function: bytes, calls: bytes, done: "Callable[[Any, BaseException | None], None]"
    ) -> None:
        self.number, self.function_id, self.function, self.calls = number, function_id, function, calls
        self.done = done
        self.tries = 0

    def finish(self, packed: bytes) -> None:
        try:
            results = pickle.loads(packed)  # noqa: S301  our own worker's
        except Exception as error:
            self.fail(ResultError(type(error).__name__, f"a result cannot be rebuilt here: {error}"))
            return
        self.done(results, None)

    def fail(self, error: BaseException) -> None:
        self.done(None, error)


class AsyncResult:
    """What `apply_async`, `map_async` and `starmap_async` return; as multiprocessing's."""

    def __init__(
        self, parts: int, *, single: bool, callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:  # fmt: skip
        self._parts: list[Any] = [None] * parts
        self._left = parts
        self._single = single
        self._callback, self._error_callback = callback, error_callback
        self._error: BaseException | None = None
        self._event = threading.Event()
        self._lock = threading.Lock()
        if not parts:
            self._finish()

    def take(self, index: int, results: Any, error: BaseException | None) -> None:
        """Take in one chunk's end."""
        with self._lock:
            if self._event.is_set():
                return
            self._parts[index] = results
            self._error = self._error or error
            self._left -= 1
            if self._left and self._error is None:
                return
        self._finish()

    def _finish(self) -> None:
        self._event.set()
        try:
            if self._error is None and self._callback is not None:
                self._callback(self.get())
            elif self._error is not None and self._error_callback is not None:
                self._error_callback(self._error)
        except Exception:
            log.exception("sshq: a callback raised")  # whoever brings results has others to serve

    def ready(self) -> bool:
        """Whether it is there."""
        return self._event.is_set()

    def successful(self) -> bool:
        """Whether it is there and no call raised.

        Raises:
            ValueError: it is not there yet.

        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._error is None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is there, `timeout` seconds at most."""
        self._event.wait(timeout)

    def get(self, timeout: float | None = None) -> Any:
        """Return the result, or raise what the call raised.

        Raises:
            TimeoutError: it is not there within `timeout` seconds.

        """
        if not self._event.wait(timeout):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        results = list(itertools.chain.from_iterable(self._parts))
        return results[0] if self._single else results


class ResultIterator:
    """What `imap` and `imap_unordered` return: reads its input as its results are taken.

    After a call that raised, the next one's result can be taken, as with multiprocessing.

    Args:
        put: sends the next chunk of the input; False where there is none.
        ahead: chunks that may be on their way or not taken yet.
        ordered: whether results come in the order of the input.

    """

    def __init__(self, put: Callable[[int, Take], bool], ahead: int, *, ordered: bool) -> None:
        self._put, self._ahead, self._ordered = put, ahead, ordered
        self._sent = self._taken = 0
        self._over = False
        self._fault: BaseException | None = None  # of the input; raised when what came before it is taken
        self._ready: deque[Any] = deque()  # of a chunk that has come
        self._come: dict[int, tuple[Any, BaseException | None]] = {}
        self._news = threading.Condition()
        self._send()

    def __iter__(self) -> "ResultIterator":
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result, or raise what its call raised.

        Raises:
            StopIteration: there are no more.
            TimeoutError: it is not there within `timeout` seconds; it can still be taken later.

        """
        while not self._ready:
            self._send()
            if self._taken == self._sent:
                fault, self._fault = self._fault, None
                if fault is not None:
                    raise fault
                raise StopIteration
            with self._news:
                if not self._news.wait_for(self._has_next, timeout):
                    raise TimeoutError
                number = self._taken if self._ordered else next(iter(self._come))
                results, error = self._come.pop(number)
            self._taken += 1
            if error is not None:
                raise error
            self._ready.extend(results)
        return self._ready.popleft()

    def _has_next(self) -> bool:
        return self._taken in self._come if self._ordered else bool(self._come)

    def _send(self) -> None:
        while not self._over and self._sent - self._taken < self._ahead:
            try:
                self._over = not self._put(self._sent, self._take)
            except Exception as error:
                self._over, self._fault = True, error
            self._sent += not self._over

    def _take(self, number: int, results: Any, error: BaseException | None) -> None:
        with self._news:
            self._come[number] = results, error
            self._news.notify_all()
