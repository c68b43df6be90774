r"""Commands typed inside jobs: who asks is checked, the verb's handler is run, its answer goes back piece by piece.

A call is a directory on the node (`runner/command.sh`); the line `U ID TOKEN` only says that it is there, each listing says
it again, so that a call outlives this controller: one that was being answered is begun anew by the next, with the same token.

How another module offers a verb:

    async def show_weather(call: Call) -> int:
        name = call.request.argv[0]                   # texts may hold any bytes but NUL, as surrogate escapes
        await call.out(b"sunny\n")                    # streams: shown at once; waits while the command is slow to take it
        await call.err(b"at least here\n")
        data = await call.read_file(name)             # read ON THE NODE, by the command, in its directory
        typed = await call.read_stdin()               # all of its standard input
        return 0                                      # its exit status, sent after all output

    upcalls.register("weather", show_weather)         # on the node: `upcall weather NAME`; a name of its own on the jobs'
                                                      # PATH it gets by a place in UPCALL_NAMES of `runner/commands.py`

Rules for handlers:

* `call.job`, `call.launch` are who asks: the launch was open, on that very host, when the call came.  It acts as the owner of
  that job.  Nothing else of a request is to be believed, and nothing it names is to be opened on this machine.
* It may be run again from the start with the same `call.token`, after a crash of the controller: what it changes must be
  done once for a token.  What the command has shown by then it does not show again: pieces are counted.
* It is cancelled when the command is gone (killed, or its job ended).  It raises SshqError for a refusal: that is
  rendered for the command, with its exit status.  Any other exception is a bug: logged, status 70.
* It may live for hours (`sbatch --wait`): then it says `call.park()`.  How many others run is bounded for each host and job.
"""

import asyncio
import contextlib
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from sshq.controller.callstream import CallStream, GoneError, fetch_file
from sshq.controller.hosts import HostLink
from sshq.controller.mailbox import Mailbox
from sshq.core.cluster import Cluster
from sshq.core.lifecycle import FINAL
from sshq.core.model import Job, Launch
from sshq.errors import RefusedError, SshqError
from sshq.runner import protocol as rp
from sshq.runner.upcalls import (
    ANSWER_MAX,
    GIVEN_MAX,
    REQUEST_MAX,
    TOKEN,
    BadRequestError,
    UpcallRequest,
    encode_answer,
    parse_given,
    parse_request,
)  # fmt: skip

log = logging.getLogger("sshq.upcall")

RUNNING_MAX = 64  # handlers of one host at a time; the others wait, in the order in which they came
JOB_RUNNING_MAX = 32  # of one job, so that it leaves places for the others of its host
PARKED_MAX = 5000  # handlers that only wait for jobs to be over
WAITING_MAX = 2000  # of one host; those beyond are heard of again by the next listing
FETCHING_MAX = 2  # channels of one host for requests and files
DONE_KEPT = 5000  # finished calls that may still be announced once more
RETRY_S = 1.0
BUG_STATUS = 70

Key = tuple[str, str, str]  # host, launch, token


class NodeFileError(RefusedError):
    """A file that the command named cannot be read or written on its node; `message` is the system's text."""


class Call:
    """One command inside a job, as its handler sees it."""

    def __init__(
        self, key: Key, request: UpcallRequest, asker: tuple[Launch, Job], *, stream: CallStream, park: Callable[[], None]
    ) -> None:  # fmt: skip
        self.host, self.launch_id, self.token = key
        self.request = request
        self.launch, self.job = asker
        self.park = park  # say that from now on this handler only waits: it makes room for others
        self._stream = stream
        self._asking = asyncio.Lock()

    async def out(self, data: bytes) -> None:
        """Show `data` on the command's standard output.  Raises GoneError where nobody is left to see it."""
        await self._stream.put("out", data)

    async def err(self, data: bytes) -> None:
        """Show `data` on the command's standard error."""
        await self._stream.put("err", data)

    async def read_file(self, path: str) -> bytes:
        """Return the bytes of a file on the node.

        Raises:
            NodeFileError: it cannot be read, or has more than GIVEN_MAX bytes.
        """
        return await self._ask("read", path.encode("utf-8", "surrogateescape"))

    async def read_stdin(self) -> bytes:
        """Return the whole standard input of the command.  Raises NodeFileError."""
        return await self._ask("stdin", b"")

    async def write_file(self, path: str, data: bytes) -> None:
        """Write a file on the node, made with mode 0700 and emptied first.  Raises NodeFileError."""
        await self._ask("path", path.encode("utf-8", "surrogateescape"), secrets.token_hex(16))
        for start in range(0, len(data), ANSWER_MAX):
            await self._ask("data", data[start : start + ANSWER_MAX], secrets.token_hex(16))

    async def show_nonce(self, name: str, nonce: str) -> bool:
        """Let the command put a file into its directory, for as long as it lives; False where it may not write there."""
        try:
            await self._ask("nonce", f"{name} {nonce}".encode(), secrets.token_hex(16))
        except NodeFileError:
            return False
        return True

    async def _ask(self, kind: str, data: bytes, question: str = "") -> bytes:
        if len(data) > ANSWER_MAX:
            raise NodeFileError("File name too long", code="bad_request")
        # What was read once is not read again for this call, be it asked by the next controller: stdin is empty by then.
        question = question or sha256(kind.encode() + b" " + data).hexdigest()[:32]
        async with self._asking:
            try:
                given, why = parse_given(await self._stream.ask(question, kind, data, GIVEN_MAX))
            except BadRequestError:
                given, why = None, "File too large"
        if given is None:
            raise NodeFileError(why, code="bad_request")
        return given


Handler = Callable[[Call], Awaitable[int]]


@dataclass(slots=True)
class _Running:
    """A call that is being answered."""

    task: asyncio.Task[None]
    news: asyncio.Event
    parked: bool = False


class Upcalls:
    """The desk: takes announcements, starts handlers in bounds."""

    def __init__(self, *, mailbox: Mailbox, links: Mapping[str, HostLink], crash: Callable[[str], None]) -> None:
        self._mailbox = mailbox
        self._links = links
        self._crash = crash
        self._handlers: dict[str, Handler] = {}
        self._running: dict[Key, _Running] = {}
        self._waiting: dict[str, dict[str, dict[Key, None]]] = {}  # by host and launch
        self._busy: Counter[str] = Counter()  # handlers that count, by host and by launch
        self._done: dict[Key, None] = {}
        self._fetching: dict[str, asyncio.Semaphore] = {}

    def register(self, verb: str, handler: Handler) -> None:
        """Offer a verb; the last one that offers it has it."""
        self._handlers[verb] = handler

    def close(self) -> None:
        """End all handlers; the commands wait for the next controller."""
        self._waiting.clear()
        for running in self._running.values():
            running.task.cancel()

    def announce(self, host: str, reply: rp.Upcall) -> None:
        """Take a line that says there is a call, or news of one.  Anybody on that host can write it: it is a hint only."""
        token, *words = reply.words
        if not TOKEN.fullmatch(token):
            return
        key = (host, reply.id, token)
        running = self._running.get(key)
        if running is not None:
            running.news.set()
            if "gone" in words:
                running.task.cancel()
            return
        waiting = self._waiting.setdefault(host, {})
        if "gone" in words:
            waiting.get(reply.id, {}).pop(key, None)
        elif key not in self._done and sum(map(len, waiting.values())) < WAITING_MAX:
            waiting.setdefault(reply.id, {})[key] = None
            self._start_some(host)
            if key not in self._running:
                self._say_it_waits(key)

    def _start_some(self, host: str) -> None:
        """Start what there is room for: one of each launch in turn."""
        waiting = self._waiting.get(host, {})
        more = True
        while more:
            more = False
            for launch_id, keys in list(waiting.items()):
                if not keys:
                    del waiting[launch_id]
                elif self._busy[host] < RUNNING_MAX and self._busy[launch_id] < JOB_RUNNING_MAX:
                    key = next(iter(keys))
                    del keys[key]
                    self._start(key)
                    more = True

    def _say_it_waits(self, key: Key) -> None:
        """Tell the command that it is heard, or it would say that nobody answers."""
        link = self._links.get(key[0])
        if link is not None and link.session is not None and link.session.ready:
            tag = secrets.token_hex(4)
            link.session.write(encode_answer(tag=tag, id=key[1], token=key[2], number=0, kind="-"))

    def _start(self, key: Key) -> None:
        news = asyncio.Event()
        task = asyncio.create_task(self._serve(key, news), name=f"upcall {key[2]}")
        self._running[key] = _Running(task, news)
        self._count(key, 1)
        task.add_done_callback(partial(self._ended, key))

    def _count(self, key: Key, change: int) -> None:
        for name in key[:2]:
            self._busy[name] += change
            if not self._busy[name]:
                del self._busy[name]

    def _park(self, key: Key) -> None:
        if sum(running.parked for running in self._running.values()) < PARKED_MAX:
            self._running[key].parked = True
            self._count(key, -1)
            self._start_some(key[0])

    def _ended(self, key: Key, task: "asyncio.Task[None]") -> None:
        if not self._running.pop(key).parked:
            self._count(key, -1)
        if not task.cancelled() and task.exception() is not None:
            log.error("host=%s launch=%s an upcall failed", key[0], key[1], exc_info=task.exception())
        self._start_some(key[0])

    async def _serve(self, key: Key, news: asyncio.Event) -> None:
        host, launch_id, token = key
        who = await self._mailbox.ask(lambda c: _find_asker(c, host, launch_id))
        if who is None:
            log.info("host=%s launch=%s a command of no open launch there is not answered", host, launch_id)
            return
        job = who[1]
        fetching = self._fetching.setdefault(host, asyncio.Semaphore(FETCHING_MAX))
        stream = CallStream(self._links, key, news, fetching)
        stream.when_gone(asyncio.current_task())
        try:
            await stream.accept()
            request = parse_request(await fetch_file(self._links, key, "request", REQUEST_MAX, fetching))
            call = Call(key, request, who, stream=stream, park=partial(self._park, key))
            log.info("host=%s job=%s launch=%s %s", host, job.job_id, launch_id, request.verb)
            await stream.finish(await self._answer(call))
            self._crash("upcall.answered")
            self._done[key] = None
            if len(self._done) > DONE_KEPT:
                del self._done[next(iter(self._done))]
        except BadRequestError as error:
            log.warning("host=%s launch=%s malformed upcall %s: %s", host, launch_id, token, error)
            with contextlib.suppress(GoneError):
                await stream.put("err", b"sshq: error: the request of this command cannot be read\n")
                await stream.finish(1)
        except GoneError:
            pass
        finally:
            stream.close()

    async def _answer(self, call: Call) -> int:
        """Return the exit status; what is refused has been said."""
        verb = call.request.verb
        handler = self._handlers.get(verb)
        try:
            if handler is None:
                raise RefusedError(f"{verb} is not supported inside jobs by this release of sshq", code="bad_request")
            return await handler(call)
        except GoneError:
            raise
        except SshqError as error:
            await call.err(error.render(verb).encode("utf-8", "surrogateescape"))
            return error.exit_code
        except Exception:
            reference = secrets.token_hex(4)
            log.exception("host=%s job=%s %s failed, reference %s", call.host, call.job.job_id, verb, reference)
            await call.err(f"{verb}: error: a bug of sshq, {reference} in the controller's log\n".encode())
            return BUG_STATUS


def _find_asker(cluster: Cluster, host: str, launch_id: str) -> tuple[Launch, Job] | None:
    """The open launch a call comes from, and its job; None where there is no such launch on that very host."""
    launch = cluster.launches.get(launch_id)
    if launch is None or launch.node != host:
        return None
    job = cluster.jobs.get(launch.job_id)
    return None if job is None or job.state in FINAL else (launch, job)


__all__ = ["Call", "GoneError", "Handler", "NodeFileError", "Upcalls"]
