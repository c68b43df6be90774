"""Slurm's commands typed inside jobs: the ordinary command in a process of its own on this machine, fed from the node.

The process (`python -m sshq.cli.remote`) gets the words, the variables that speak to commands and the directory as data over
a socket, asks over it for each file it needs, and its output goes to the command on the node.  It is no shell, opens
nothing that the node named, and acts as this controller's account, whose jobs are the only ones of this release.
"""

import asyncio
import base64
import json
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from sshq.controller.mailbox import Mailbox
from sshq.controller.upcalls import Call, NodeFileError, Upcalls
from sshq.core.cluster import Cluster
from sshq.core.lifecycle import FINAL
from sshq.core.model import Job
from sshq.runner.commands import UPCALL_NAMES

STARTING_MAX = max(2, min(8, os.cpu_count() or 1))  # processes that compute; those that only wait give their place away
STARTING_S = 5.0
PROCESSES_MAX = 256
MESSAGE_MAX = 24 << 20
BLOCK = 64 * 1024


class HeadCommands:
    """Runs commands for jobs, a few at a time."""

    def __init__(self, *, mailbox: Mailbox, socket_path: str, crash: Callable[[str], None]) -> None:
        self._mailbox = mailbox
        self._socket_path = socket_path
        self._crash = crash
        self._starting = asyncio.Semaphore(STARTING_MAX)
        self._processes = asyncio.Semaphore(PROCESSES_MAX)

    def register(self, upcalls: Upcalls) -> None:
        for verb in UPCALL_NAMES:
            upcalls.register(verb, self.run)

    async def run(self, call: Call) -> int:
        """Run one command; returns its exit status as a shell would show it."""
        self._crash("upcall.before_command")
        status, waits_for = await self._run(call, [])
        if waits_for:  # sbatch --wait: no process waits
            call.park()
            await until_over(self._mailbox, waits_for)
            status, _ = await self._run(call, waits_for)
        self._crash("upcall.command_ended")
        return status

    async def _run(self, call: Call, over: list[int]) -> tuple[int, list[int]]:
        """One process; `over` are the jobs that it waited for.  Returns its status, and the jobs that it has to wait for."""
        async with self._processes:
            await self._starting.acquire()
            place = _Place(self._starting)
            timer = asyncio.get_running_loop().call_later(STARTING_S, place.give_back)
            try:
                return await self._run_process(call, over)
            finally:
                timer.cancel()
                place.give_back()

    async def _run_process(self, call: Call, over: list[int]) -> tuple[int, list[int]]:
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-s", "-m", "sshq.cli.remote", str(theirs.fileno()), pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                env=_environment(), cwd="/", start_new_session=True,
            )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=MESSAGE_MAX)
        copies = [
            asyncio.create_task(_copy(process.stdout, call.out)), asyncio.create_task(_copy(process.stderr, call.err)),
        ]  # fmt: skip
        answering = asyncio.create_task(_answer_questions(call, reader, writer))
        try:
            _send(writer, self._describe(call) | {"over": over})
            await asyncio.gather(answering, *copies)
            status = await process.wait()
        finally:
            for task in (*copies, answering):
                task.cancel()
            if process.returncode is None:
                process.kill()
            writer.close()
            await asyncio.gather(*copies, answering, process.wait(), return_exceptions=True)
        return (status if status >= 0 else 128 - status), answering.result()

    def _describe(self, call: Call) -> dict[str, Any]:
        request, spec = call.request, call.job.spec
        return {
            "verb": request.verb,
            "argv": list(request.argv),
            "environ": request.environ,
            "cwd": request.cwd,
            "real_cwd": request.real_cwd,
            "umask": request.umask,
            "token": call.token,
            "socket": self._socket_path,
            "node": call.host,
            "job": str(call.job.job_id),
            "private": call.launch.private_dir,
            "private_dir": f"/a/{call.launch_id}.d",
            "work_dir": spec.work_dir,
            "shared": spec.provable and not spec.anywhere and not call.launch.private_dir,
            "head": os.uname().nodename,
        }


class _Place:
    """A place among those that compute, given back once."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places: asyncio.Semaphore | None = places

    def give_back(self) -> None:
        if self._places is not None:
            self._places.release()
            self._places = None


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SSHQ_")}


async def _copy(stream: asyncio.StreamReader | None, put: Callable[[bytes], Any]) -> None:
    while stream is not None and (data := await stream.read(BLOCK)):
        await put(data)


def _send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    writer.write(json.dumps(message).encode() + b"\n")


async def _answer_questions(call: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[int]:
    """Answer what the process asks of the node until it ends; returns the jobs that are to be waited for."""
    while line := await _read_line(reader):
        question = json.loads(line)
        if question.get("waits_for"):
            return [int(one) for one in question["waits_for"]]
        _send(writer, await _ask_node(call, question))
    return []


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except OSError:  # it ended with something unread
        return b""


async def until_over(mailbox: Mailbox, job_ids: list[int]) -> None:
    """Return once the jobs, an array's tasks all of them, are over and their output is home."""
    changed = asyncio.Event()

    def listener(jobs: list[Job]) -> None:
        if any(job.state in FINAL for job in jobs):
            changed.set()

    def any_left(cluster: Cluster) -> bool:
        members = {m for job_id in job_ids for m in (job_id, *cluster.array_members.get(job_id, ()))}
        return any(cluster.jobs[m].state not in FINAL or cluster.jobs[m].output_pending for m in members if m in cluster.jobs)

    mailbox.listeners.append(listener)
    try:
        while await mailbox.ask(any_left):
            await changed.wait()
            changed.clear()
    finally:
        mailbox.listeners.remove(listener)


async def _ask_node(call: Call, question: dict[str, Any]) -> dict[str, Any]:
    path = str(question.get("path", ""))
    try:
        match question.get("what"):
            case "read":
                data = await call.read_file(path)
            case "stdin":
                data = await call.read_stdin()
            case "write":
                await call.write_file(path, base64.b64decode(str(question["data"])))
                data = b""
            case "nonce":
                return {"shown": await call.show_nonce(str(question["name"]), str(question["nonce"]))}
            case _:
                return {"error": "no such question"}
    except NodeFileError as error:
        return {"error": error.message}
    return {"data": base64.b64encode(data).decode()}
