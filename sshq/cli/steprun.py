"""srun in an allocation that is held here, in salloc's shell say: the node's srun runs there, its streams and status are ours."""

import os
import threading

from sshq.cli.asking import UNREACHABLE_PREFIX, NoAnswerError, Object
from sshq.cli.following import PATIENCE_S, ask_patiently
from sshq.cli.input import InputFeeder
from sshq.cli.interrupts import Interrupts
from sshq.cli.printing import print_messages
from sshq.errors import OptionError, RefusedError, SshqError, UnreachableError
from sshq.wire.passing import write_all

LOST = 1
KILL = 9


class StepRun:
    """One step, from its start to its status."""

    def __init__(self, part: Object, *, tasks: int, quick: bool, silent: bool) -> None:
        """`part`: ref, token, argv, environ, work_dir, umask of the request."""
        self._part = part
        self._tasks, self._quick, self._silent = tasks, quick, silent
        ref = part["ref"]
        self._job_id = int(ref[0]) if isinstance(ref, list) else 0
        self._code: int | None = None
        self._faults: list[str] = []

    def run(self, *, with_input: bool) -> int:
        """Return the step's exit status."""
        self._start(with_input=with_input)
        feeder = InputFeeder(self._job_id, str(self._part["token"])) if with_input else None
        copiers = [threading.Thread(target=self._copy, args=pair, daemon=True) for pair in (("out", 1), ("err", 2))]
        with Interrupts(
            f"StepId={self._job_id}", self._tasks, send=self._signal, end=lambda: self._signal(15), quick=self._quick,
            silent=self._silent,
        ):  # fmt: skip
            for thread in (*copiers, *([feeder] if feeder else [])):
                thread.start()
            for copier in copiers:
                while copier.is_alive():
                    copier.join(3600)  # a signal is taken between two waits
        if feeder is not None:
            feeder.close()
        print_messages(self._faults[:1])
        if self._code is None and not self._faults:
            print_messages([f"srun: error: job {self._job_id} has ended, and its step with it"])
        return LOST if self._code is None else self._code

    def _start(self, *, with_input: bool) -> None:
        try:
            ask_patiently("part_start", self._part | {"input": with_input})
        except RefusedError as error:
            raise refuse_step(self._job_id, error) from None
        except UnreachableError as error:
            raise NoAnswerError(error, UNREACHABLE_PREFIX["srun"]) from None

    def _copy(self, stream: str, descriptor: int) -> None:
        """Copy one stream to its end, across restarts of the controller."""
        import time

        from sshq.wire.client import connect

        params: Object = {"ref": self._part["ref"], "token": self._part["token"], "stream": stream}
        offset, ends_at, open_here = 0, None, True
        while True:
            try:
                with connect(os.environ) as client:
                    data_stream = client.data("part_output", params | {"offset": offset}, timeout_s=None)
                    for data in data_stream:
                        offset, ends_at = offset + len(data), None
                        open_here = open_here and _write(descriptor, data)
                    code = data_stream.result.get("code")
                    if isinstance(code, int):
                        self._code = code
                    return
            except UnreachableError as error:
                now = time.monotonic()
                ends_at = ends_at or now + PATIENCE_S
                if now > ends_at:
                    self._faults.append(f"srun: error: the controller stayed away; the step may go on: {error.message}")
                    return
            except RefusedError as error:
                if error.code != "ended":
                    self._faults.append(f"srun: error: {error.message}")
                return
            time.sleep(0.3)

    def _signal(self, number: int) -> None:
        try:
            ask_patiently("part_signal", {"ref": self._part["ref"], "token": self._part["token"], "signal": number}, patience_s=5)
        except SshqError as error:
            print_messages([f"srun: error: the signal could not be sent: {error.message}"])


def refuse_step(job_id: int, error: RefusedError) -> OptionError:
    """Return a refusal in srun's words."""
    if error.code == "unknown_job":
        return OptionError(f"Unable to confirm allocation for job {job_id}: {error.message}")
    return OptionError(f"Unable to create step for job {job_id}: {error.message}", hint=error.hint)


def _write(descriptor: int, data: bytes) -> bool:
    """Return whether somebody still reads: `srun yes | head` goes on, as nobody reads."""
    try:
        write_all(descriptor, data)
    except OSError:
        return False
    return True
