"""One worker of a pool: a job that holds a place on a node, a Python process in it, and the two threads that speak with that.

A cut of the line, or a controller that is started anew, costs time and nothing else: input travels in numbered chunks that are
taken once, output is read on from where it stopped.
"""

import json
import logging
import pickle
import threading
import time
from binascii import b2a_base64
from typing import TYPE_CHECKING, Any

from sshq.api.calls import cloudpickle_source, own_paths, rebuild_error, write_head
from sshq.errors import RefusedError, SshqError, UnreachableError

if TYPE_CHECKING:
    from sshq.api.jobs import Job
    from sshq.api.pool import Pool
    from sshq.api.poolresults import Chunk
    from sshq.wire.client import Client as Wire

log = logging.getLogger("sshq")
WINDOW_MAX = 500  # chunks a worker has beside the one it does
WORTH_S = 0.3  # of quick ones so many that it need not wait for the line between two; of slow ones none, others may be idle
PIECE_BYTES = 32_768  # what the controller takes at once
AWAY_S = 0.3


class Worker:
    """From its job's submission to its end; tells the pool of each, and gives back what it could not finish."""

    def __init__(self, pool: "Pool", job: "Job", number: int) -> None:
        self.job = job
        self.number = number
        self._pool = pool
        self._part: dict[str, Any] = {"ref": [job.job_id, None], "token": "pool"}
        self._sent: set[int] = set()  # functions it knows
        self._lock = threading.Lock()
        self._flying: dict[int, Chunk] = {}
        self._lost = False
        self.heard_at = time.monotonic()
        self._pieces = 0
        self._paces: dict[int, float] = {}  # seconds a chunk of a function takes there, lately
        self._wire: Wire | None = None
        threading.Thread(target=self._feed, name=f"sshq-pool-{number}", daemon=True).start()

    @property
    def load(self) -> int:
        return len(self._flying)

    def capacity(self, function_id: int) -> int:
        """Return how many chunks of a function it may have: what it does in a moment, by what it did so far."""
        took_s = self._paces.get(function_id)
        return 1 if took_s is None else 1 + min(WINDOW_MAX, int(WORTH_S / max(took_s, 1e-6)))

    # ---- to the node -----------------------------------------------------------------------------------------

    def _feed(self) -> None:
        try:
            self.job.wait_start()
            if self.job.done():
                self._lose("its job ended before it began")
                return
            self._start()
            threading.Thread(target=self._listen, name=f"sshq-pool-{self.number}-results", daemon=True).start()
            self._write(json.dumps(self._setup()).encode())
            while chunks := self._pool.next_chunks(self):
                with self._lock:
                    if self._lost:
                        self._pool.give_back(chunks)
                        return
                    if not self._flying:
                        self.heard_at = time.monotonic()
                    self._flying |= {chunk.number: chunk for chunk in chunks}
                self._write(*(self._pack(chunk) for chunk in chunks))
            self._send(b"")  # it ends when it has read that
        except SshqError as error:
            self._lose(error.message)
        except Exception as error:  # or its calls would be waited for for ever
            log.exception("sshq: worker %d of the pool", self.number)
            self._lose(f"{type(error).__name__}: {error}")
        finally:
            self._hang_up()

    def _setup(self) -> dict[str, object]:
        return {
            "path": own_paths(), "cloudpickle": cloudpickle_source(), "initializer": self._pool.initializer,
            "ship": self._pool.shipment, "lives": self._pool.maxtasksperchild or 0,
        }

    def _start(self) -> None:
        head = write_head(self._pool.need, "poolstub.py")
        self._ask("part_start", {
            **self._part, "argv": ["/bin/sh", "-c", head, "sshq-pool"], "input": True, "work_dir": self._pool.work_dir,
            "umask": 0o077, "environ": {},
        })  # fmt: skip

    def _pack(self, chunk: "Chunk") -> bytes:
        known = chunk.function_id in self._sent
        self._sent.add(chunk.function_id)
        return pickle.dumps((chunk.number, chunk.function_id, b"" if known else chunk.function, chunk.calls), 4)

    def _write(self, *bodies: bytes) -> None:
        data = b"".join(b"%08x\n" % len(body) + body for body in bodies)
        for start in range(0, len(data), PIECE_BYTES):
            self._send(data[start : start + PIECE_BYTES])

    def _send(self, piece: bytes) -> None:
        number, self._pieces = self._pieces, self._pieces + 1
        data = b2a_base64(piece, newline=False).decode()
        self._ask("part_input", {**self._part, "number": number, "data": data})

    def _ask(self, method: str, params: dict[str, object]) -> dict[str, object]:
        """Ask until there is an answer: all of these may be repeated."""
        while True:
            try:
                if self._wire is None:
                    self._wire = self._pool.client.connect()
                return self._wire.call(method, params, timeout_s=None)
            except UnreachableError:
                self._hang_up()
            except RefusedError as error:
                if error.code not in ("not_now", "internal") or self.job.done():
                    raise
            if self.job.done():
                raise WorkerOverError(self.job)
            time.sleep(AWAY_S)

    def _hang_up(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    # ---- from the node ---------------------------------------------------------------------------------------

    def _listen(self) -> None:
        buffer, offset = bytearray(), 0
        while True:
            try:
                with self._pool.client.connect() as wire:
                    stream = wire.data("part_output", {**self._part, "stream": "out", "offset": offset}, timeout_s=None)
                    for data in stream:
                        offset += len(data)
                        buffer += data
                        self.heard_at = time.monotonic()
                        self._take_frames(buffer)
                        self._pool.wake()
                    self._end(stream.result.get("code"))
                    return
            except UnreachableError:
                time.sleep(AWAY_S)
            except SshqError as error:
                self._lose(error.message)
                return
            except Exception as error:  # what came is no answer of our worker's
                log.exception("sshq: worker %d of the pool", self.number)
                self._lose(f"{type(error).__name__}: {error}")
                return

    def _take_frames(self, buffer: bytearray) -> None:
        at = 0
        try:
            while len(buffer) >= at + 9:
                size = int(bytes(buffer[at : at + 8]), 16)
                if len(buffer) < at + 9 + size:
                    return
                at += 9 + size
                self._take_frame(bytes(buffer[at - size : at]))
        finally:
            del buffer[:at]

    def _take_frame(self, body: bytes) -> None:
        number, ok, answer, took_s = pickle.loads(body)  # noqa: S301  our own worker's, by way of our own socket
        if number == -1:  # the process has begun, or its initializer failed
            if not ok:
                self._pool.break_off(rebuild_error(*answer))
            return
        with self._lock:
            chunk = self._flying.pop(number, None)
        if chunk is None:
            return
        before = self._paces.get(chunk.function_id, took_s)
        self._paces[chunk.function_id] = max(0.7 * before + 0.3 * took_s, took_s / 4)  # a slow one counts at once
        if ok:
            chunk.finish(answer)
        else:
            chunk.fail(rebuild_error(*answer))

    def _end(self, code: object) -> None:
        if code == 0:
            self.give_up_place()
            with self._lock:
                left = bool(self._flying)
            if not left:
                return
        self._lose(f"its process ended with status {code}" if code is not None else "its job ended")

    # ---- the end ---------------------------------------------------------------------------------------------

    def give_up_place(self) -> None:
        """End the job: there is nothing more to do."""
        try:
            with self._pool.client.connect() as wire:
                wire.call("finish", {"ref": [self.job.job_id, None], "code": 0})
        except SshqError:
            pass  # over already, or its limit ends it

    def abandon(self, why: str) -> None:
        """Give it up although its job may still run: the job is cancelled, which its host hears when it is back."""
        try:
            self._pool.client.cancel([self.job])
        except SshqError as error:
            log.warning("sshq: job %d of the pool could not be cancelled: %s", self.job.job_id, error.message)
        self._lose(why)

    def last_words(self) -> str:
        """Return the end of what the worker has written to standard error, "" if that cannot be read."""
        try:
            with self._pool.client.connect() as wire:
                data = b"".join(wire.data("part_output", {**self._part, "stream": "err", "offset": 0}, timeout_s=5))
        except SshqError:
            return ""
        return data.decode("utf-8", "replace")[-2000:]

    def _lose(self, why: str) -> None:
        with self._lock:
            if self._lost:
                return
            self._lost = True
            left, self._flying = list(self._flying.values()), {}
        self._hang_up()
        self._pool.note_loss(self, left, why)


class WorkerOverError(SshqError):
    """The worker's job is over."""

    def __init__(self, job: "Job") -> None:
        super().__init__(f"its job {job.job_id} is {job.state}")
