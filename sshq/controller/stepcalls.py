"""Steps over several nodes: what the srun of a job's first node asks for its other nodes (`runner/srun_nodes.sh`).

`upcall step N NODES -FLAGS PROGRAM WORDS...` has the holder of each node start the same srun with the same words, which runs the
tasks of that node; what they write comes back as whole lines, the highest of their exit codes is the call's.  Two more verbs
bring input and signals to a step that runs.

A part is named by the number of its step, which is unique in the attempt, and made exclusively: however often this is run, no
task starts twice.  What an earlier controller had passed on of its output cannot be told, so a step that outlived one is
ended, with a word (status LOST_STATUS).
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sshq.controller.hosts import HostLink
from sshq.controller.mailbox import Mailbox
from sshq.controller.parts import PartRef, Parts
from sshq.controller.upcalls import Call, Upcalls
from sshq.core.cluster import Cluster
from sshq.core.model import Launch
from sshq.errors import NodeError, RefusedError
from sshq.runner import parts as rp
from sshq.runner.calls import SIGNALS, signal_name
from sshq.runner.replies import PartAnswer

log = logging.getLogger("sshq.step")

LOST_STATUS = 254  # srun's word for it stands in srun_nodes.sh
AWAY_S = 0.3
LINE_MAX = 8192
INPUT_BLOCK = 32_768
SIGNAL_TRIES = 30
TERM = "TERM"
NUMBERS = {name: number for number, name in SIGNALS.items()}

# A node's own, whatever they are where srun was typed.
NODE_NAMES = frozenset(
    """HOME USER LOGNAME SHELL PWD OLDPWD TMPDIR HOSTNAME SLURMD_NODENAME SLURM_CPUS_ON_NODE SLURM_NODEID SLURM_TOPOLOGY_ADDR
    SLURM_JOB_GPUS SLURM_STEP_GPUS GPU_DEVICE_ORDINAL SLURM_TASK_PID""".split()  # noqa: SIM905
)
NODE_PREFIXES = ("SSHQ_", "CUDA_", "ROCR_", "HIP_", "ZE_")
_NUMBER = re.compile(r"[0-9]{1,6}")
_FLAGS = re.compile(r"-[KIu]*")


@dataclass(frozen=True, slots=True)
class _Place:
    """One of the other nodes of a step."""

    ref: PartRef
    call: rp.PartCall


class StepCalls:
    """Answers `step`, `step_input` and `step_signal`."""

    def __init__(self, *, mailbox: Mailbox, parts: Parts, links: Mapping[str, HostLink]) -> None:
        self._mailbox = mailbox
        self._parts = parts
        self._links = links

    def register(self, upcalls: Upcalls) -> None:
        upcalls.register("step", self.step)
        upcalls.register("step_input", self.bring_input)
        upcalls.register("step_signal", self.signal)

    async def step(self, call: Call) -> int:
        """Run a step's tasks on the other nodes of its job; returns the highest of their exit codes."""
        step, nodes, rest = _read(call)
        if len(rest) < 3 or not _FLAGS.fullmatch(rest[0]):
            raise RefusedError("malformed request for a step", code="bad_request")
        call.park()
        flags = rest[0]
        places = [place for node in nodes if (place := await self._place(call, node, step, rest)) is not None]
        if len(places) < len(nodes):
            gone = sorted(set(nodes) - {place.ref.node for place in places})
            await call.err("".join(f"srun: error: Node failure on {name}\n" for name in gone).encode())
            return 1
        if not await self._is_new(places):
            await self._end(places)
            return LOST_STATUS
        try:
            await asyncio.gather(*(self._start(place) for place in places))
            codes = await self._follow(call, places, at_once="u" in flags, end_all="K" in flags)
        except BaseException:
            # The command is gone, or cannot go on: nobody looks after these tasks any more.
            ending = asyncio.ensure_future(self._end(places))
            ending.add_done_callback(lambda task: task.cancelled() or task.exception())
            raise
        return max(codes)

    async def bring_input(self, call: Call) -> int:
        """Bring the command's standard input to the tasks on the other nodes."""
        step, nodes, _ = _read(call)
        call.park()
        data = await call.read_stdin()
        places = [ref for node in nodes if (ref := await self._find(call, node, step)) is not None]
        await asyncio.gather(*(self._feed(ref, data) for ref in places))
        return 0

    async def signal(self, call: Call) -> int:
        """Signal the tasks on the other nodes."""
        step, nodes, rest = _read(call)
        refs = [ref for node in nodes if (ref := await self._find(call, node, step)) is not None]
        await asyncio.gather(*(self._signal(ref, rest[0] if rest else TERM) for ref in refs))
        return 0

    # ---- places ----------------------------------------------------------------------------------------------

    async def _find(self, call: Call, node: str, step: int) -> PartRef | None:
        def find(cluster: Cluster) -> Launch | None:
            job = cluster.jobs.get(call.job.job_id)
            ids = job.part_launches if job is not None and job.launch_id == call.launch_id else ()
            return next((la for i in ids if (la := cluster.launches.get(i)) is not None and la.node == node), None)

        launch = await self._mailbox.ask(find)
        if launch is None:
            return None
        return PartRef(job_id=call.job.job_id, node=node, launch_id=launch.id, token=f"step{step}")

    async def _place(self, call: Call, node: str, step: int, asked: tuple[str, ...]) -> _Place | None:
        flags, program, words = asked[0], asked[1], asked[2:]
        ref = await self._find(call, node, step)
        if ref is None:
            return None
        spool = await self._spool(ref)
        if spool is None:
            return None
        kept = {n: v for n, v in call.request.environ.items() if n not in NODE_NAMES and not n.startswith(NODE_PREFIXES)}
        environ = kept | {"SLURM_SSHQ_PART": str(step)} | ({"SLURM_SSHQ_PROGRAM": program} if program else {})
        return _Place(ref, rp.PartCall(
            id=ref.launch_id, token=ref.token, argv=("/bin/sh", f"{spool}/bin/srun", *words), environ=environ,
            work_dir=call.request.cwd, stdin="feed" if "I" in flags else "", umask=call.request.umask,
        ))  # fmt: skip

    async def _spool(self, ref: PartRef) -> str | None:
        """Where its node keeps its files, as soon as it can be asked; None once the launch there is over."""
        while True:
            link = self._links.get(ref.node)
            session = link.session if link is not None else None
            if session is not None and session.ready and session.hello is not None:
                return session.hello.spool
            if not await self._is_open(ref):
                return None
            await asyncio.sleep(AWAY_S)

    async def _is_open(self, ref: PartRef) -> bool:
        return await self._mailbox.ask(lambda c: ref.launch_id in c.launches)

    # ---- running ---------------------------------------------------------------------------------------------

    async def _is_new(self, places: list[_Place]) -> bool:
        """Whether no controller has asked for this step before."""
        answers = await asyncio.gather(*(self._ask(place.ref) for place in places))
        return all(answer in ("none", "gone") for answer in answers)

    async def _ask(self, ref: PartRef) -> str:
        while await self._is_open(ref):
            link = self._links.get(ref.node)
            session = link.session if link is not None else None
            try:
                if session is not None and session.ready:
                    reply = await session.call(
                        lambda tag: rp.encode_ask_part(tag=tag, id=ref.launch_id, token=ref.token), PartAnswer
                    )
                    return reply.word
            except NodeError as error:
                log.info("host=%s step part: %s", ref.node, error.message)
            await asyncio.sleep(AWAY_S)
        return "gone"

    async def _start(self, place: _Place) -> None:
        while await self._is_open(place.ref):
            try:
                await self._parts.start(place.ref.node, place.call)
            except NodeError as error:
                log.info("host=%s step part: %s", place.ref.node, error.message)
                await asyncio.sleep(AWAY_S)
            else:
                return

    async def _follow(self, call: Call, places: list[_Place], *, at_once: bool, end_all: bool) -> list[int]:
        """Pass on what the parts write until all have ended; returns their codes."""

        async def follow(place: _Place) -> int:
            out, err = _Lines(call.out, at_once=at_once), _Lines(call.err, at_once=at_once)
            code, _ = await asyncio.gather(
                self._parts.stream(place.ref, "out", 0, out.put), self._parts.stream(place.ref, "err", 0, err.put)
            )
            await out.flush()
            await err.flush()
            if code is None:
                await call.err(f"srun: error: Node failure on {place.ref.node}\n".encode())
            if end_all and code != 0:
                await self._end([other for other in places if other is not place])
            return 1 if code is None else code

        tasks = [asyncio.ensure_future(follow(place)) for place in places]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _feed(self, ref: PartRef, data: bytes) -> None:
        chunks = [data[at : at + INPUT_BLOCK] for at in range(0, len(data), INPUT_BLOCK)]
        for number, chunk in enumerate((*chunks, b"")):
            while await self._is_open(ref):
                try:
                    if not await self._parts.put_input(ref, number, chunk):
                        return
                    break
                except NodeError:
                    await asyncio.sleep(AWAY_S)

    async def _signal(self, ref: PartRef, signal: str) -> None:
        """Signal the srun there: TERM, from which it kills its tasks; a KILL would leave them.

        One that is only about to start gets it as soon as it is there.
        """
        for _ in range(SIGNAL_TRIES):
            with contextlib.suppress(NodeError, ValueError):
                if await self._parts.signal(ref, NUMBERS[TERM if signal == "KILL" else signal_name(signal)]):
                    return
            if await self._ask(ref) in ("ended", "gone"):
                return
            await asyncio.sleep(AWAY_S)

    async def _end(self, places: list[_Place]) -> None:
        await asyncio.gather(*(self._signal(place.ref, TERM) for place in places))


class _Lines:
    """Passes on whole lines, so that those of several tasks do not run into each other."""

    def __init__(self, send: Callable[[bytes], "asyncio.Future[None]"] | Callable[[bytes], object], *, at_once: bool) -> None:
        self._send = send
        self._at_once = at_once
        self._rest = b""

    async def put(self, *pieces: bytes) -> None:
        data = b"".join((self._rest, *pieces))
        end = len(data) if self._at_once or len(data) > 16 * LINE_MAX else data.rfind(b"\n") + 1
        self._rest = data[end:]
        start = 0
        while start < end:  # pieces of a call are not larger, and are cut at the end of a line where there is one
            cut = min(end, start + LINE_MAX)
            if cut < end:
                cut = data.rfind(b"\n", start, cut) + 1 or cut
            await self._send(data[start:cut])  # type: ignore[misc]
            start = cut

    async def flush(self) -> None:
        if self._rest:
            rest, self._rest = self._rest, b""
            await self._send(rest)  # type: ignore[misc]


def _read(call: Call) -> tuple[int, list[str], tuple[str, ...]]:
    """Return number, nodes and the rest of a request, checked: it asks for nodes of its own job, from the first of them."""
    argv = call.request.argv
    nodes = argv[1].split(",") if len(argv) > 1 else []
    if len(argv) < 2 or not _NUMBER.fullmatch(argv[0]) or call.launch.rank or len(set(nodes)) != len(nodes):
        raise RefusedError("malformed request for a step", code="bad_request")
    if not set(nodes) <= set(call.job.nodes[1:]):
        raise RefusedError("Requested node configuration is not available", code="bad_request")
    return int(argv[0]), nodes, argv[2:]
