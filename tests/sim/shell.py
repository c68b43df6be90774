"""`exec /bin/sh` on a simulated node: reads what the controller really writes, and does what calls.sh and start.sh do.

The bytes are the real ones: the bootstrap with the whole program, single-quoted words, one call a line.  A call runs step
by step (`yield`), so that supervisors, other runners and death come in between.  Replies are the real lines.
"""

import re
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sshq.runner import protocol as rp

from .asides import AsideCalls
from .node import Node, Proc, Spool, Steps
from .parsing import COMMAND, ID, READ, prologue, split_words
from .plan import EVENTS
from .supervisor import Supervisor, is_settled, kill_orphan

if TYPE_CHECKING:
    from .net import Pipe


class Shell(AsideCalls):
    """One channel's shell: a runner, once it was told to be one."""

    def __init__(self, node: Node, pipe_down: "Pipe") -> None:
        self.node = node
        self.pipe_down = pipe_down
        self.buffer = b""
        self.eof = False
        self.spool: Spool | None = None
        self.spawner: Proc | None = None
        self.spawn_queue: deque[Callable[[], None]] = deque()
        self.refused: dict[str, str] = {}
        self.parts: dict[str, int | str] = {}
        self.out: list[bytes] = []
        self.proc = Proc(node, "shell")
        self.proc.shell = self  # type: ignore[attr-defined]
        self.proc.on_end = self._ended
        self.proc.run(self._steps())

    # ---- the channel -----------------------------------------------------------------------------------------

    def receive(self, data: bytes | None) -> None:
        if data is None:
            self.eof = True
        else:
            self.buffer += data
        self.proc.wake()

    def say(self, line: str) -> None:
        self.pipe_down.send(line.encode("utf-8", "surrogateescape") + b"\n")

    def _ended(self) -> None:
        self.pipe_down.send(None)
        if self.spawner is not None:
            self.spawner.wake()

    def _steps(self) -> Steps:
        while True:
            if self.buffer.startswith(b"PROGRAM="):
                start = prologue()
                if self.buffer.startswith(start):
                    self.buffer = self.buffer[len(start) :]
                elif len(self.buffer) < len(start) and not self.eof:
                    yield None
                    continue
                else:
                    return  # cut off: a syntax error
            found = COMMAND.match(self.buffer)
            if found is None:
                if not self.eof:
                    yield None
                    continue
                if self.buffer and COMMAND.fullmatch(self.buffer + b"\n"):
                    self.buffer += b"\n"
                    continue
                return
            self.buffer = self.buffer[found.end() :]
            if found[1].startswith(b"read_file()"):
                self.buffer = found[1] + b"\n" + self.buffer
                yield from self._read_file()
                return
            words = split_words(found[1])
            if words:
                yield from self._call(words)
                if not self.proc.alive:
                    return

    def _call(self, words: list[str]) -> Steps:
        name, *args = words
        if name == "boot":
            yield from self._boot(args)
            return
        if self.spool is None or not name.startswith("call_"):
            return
        if not args or args[-1] != f"END-{args[0]}":
            return
        handler = getattr(self, name, None)
        if name in EVENTS:
            self.node.world.happen(name, self.node, self.proc)
        yield self.node.tick()
        if handler is not None:
            yield from handler(*args[:-1])

    # ---- start -----------------------------------------------------------------------------------------------

    def _boot(self, args: list[str]) -> Steps:
        if len(args) != 8 or args[7] != f"END-{args[0]}":
            self.proc.end(0)
            return
        nonce, store_id = args[0], args[1]
        node, me = self.node, self.proc
        yield node.tick()
        if node.disk_full and store_id not in node.spools:
            self.say(f"SSHQ {nonce} unusable spool-space cannot make the spool")
            me.end(0)
            return
        spool = node.spool_of(store_id)
        yield node.tick()
        me.kind = "runner"
        took_over = 0
        spool.runners.append(me)
        yield node.tick()
        spool.runner = me
        yield node.tick()
        for other in list(spool.runners):
            if other is me:
                continue
            if other.alive and node.guards.takeover:
                took_over = 1
                other.signal("KILL")
                yield node.tick()
            if node.guards.takeover:
                spool.runners.remove(other)
        yield node.tick()
        for launch, fields in list(spool.files.items()):
            if "exit" not in fields and fields.get("go") != "file":
                for name in ("req", "env", "script", "sup", "run", "out"):
                    spool.put(launch, name, None)
        self.spool = spool
        node.world.happen("hello", node, me)
        gen, high, open_seqs = spool.gen, spool.floor_high, sorted(spool.floor_open)
        self.say(f"SSHQ {nonce} hello {rp.PROTOCOL}")
        lines = [
            f"version {1}", f"boot {node.boot}", "uid 1000", "user sim", "home /home/sim", "shell /bin/sh",
            f"spool /spool/{node.name}/{spool.spool_id[:8]}", f"spool_id {spool.spool_id}", "fs ext4", f"gen {gen}",
            f"floor {high}", *(f"open {s}" for s in open_seqs), f"pid {me.pid}", f"start {me.start}",
            f"uptime {node.uptime_s:.2f}", f"clock {node.wall_at}", "signals env", "setsid setsid", f"took_over {took_over}",
            "scope ",
        ]  # fmt: skip
        for line in lines:
            self.say(f"h {line}")
        self.say(f"h . {len(lines)}")

    # ---- calls, in the order of calls.sh ---------------------------------------------------------------------

    def call_ping(self, tag: str) -> Steps:
        self.say(f"P {tag} {self.node.uptime_s:.2f}")
        yield 0.0

    def call_load(self, tag: str) -> Steps:
        self.say(f"O {tag} 0.50 1048576 {self.node.uptime_s:.2f} {self._room()}")
        yield 0.0

    def _room(self) -> str:
        return "no-space" if self.node.disk_full else "ok"

    def _raise_floor(self, high: int, open_text: str) -> Steps:
        """Settled is what was settled or is settled now; between reading and renaming others may come."""
        spool = self._spool
        old_high, old_open = spool.floor_high, spool.floor_open
        asked = {int(s) for s in open_text.split()}
        keep = {s for s in old_open if s > high or s in asked} | {s for s in asked if old_high < s <= high}
        self.node.world.happen("floor_raised", self.node, self.proc)
        yield self.node.tick()
        if not spool.deleted:
            spool.set_floor(max(high, old_high), frozenset(keep))

    def call_reserve(self, tag: str, old: str, new: str, high: str, open_text: str) -> Steps:
        spool = self._spool
        gen, ok = spool.gen, 0
        if spool.deleted:
            self.say(f"E {tag} reserve floor or gen could not be written")
            return
        if (gen == int(old) or not self.node.guards.generation) and int(new) > gen:
            yield from self._raise_floor(int(high), open_text)
            yield self.node.tick()
            if spool.deleted:
                self.say(f"E {tag} reserve floor or gen could not be written")
                return
            spool.set_gen(int(new))
            gen, ok = int(new), 1
        self.say(f"R {tag} {ok} {gen} {spool.floor_high}")

    def call_part(self, launch: str, number: str, kind: str, first: str, chunk: str) -> Steps:
        spool = self._spool
        if spool.get(launch, "exit") is not None or spool.get(launch, "go") is not None:
            return
        seen = self.parts.get(launch, 0)
        if int(number) != 1 and seen != int(number) - 1:
            return
        yield 0.0
        if self.node.disk_full:
            self.parts[launch] = "full"
            return
        before = b"" if first == "1" else spool.get(launch, kind) or b""
        spool.put(launch, kind, before + chunk.encode("utf-8", "surrogateescape"))
        self.parts[launch] = int(number)

    def _refuse(self, launch: str, why: str) -> None:
        self.refused[launch] = why
        self.say(f"N {launch} {why}")

    def call_launch(
        self, launch: str, seq: str, uid: str, boot: str, parts: str = "0", req: str = "", env: str = "", script: str = ""
    ) -> Steps:
        node, spool = self.node, self._spool
        told = spool.get(launch, "exit") is not None or spool.get(launch, "go") == "file" or spool.get(launch, "run") is not None
        if told and node.guards.claim:
            self.say(f"Q {self.entry(launch)}")
            return
        if launch in self.refused:
            self.say(f"N {launch} {self.refused[launch]}")
            return
        if spool.get(launch, "go") is not None and node.guards.arbiter:
            self.say(f"N {launch} go-lost")
            return
        if is_settled(node, spool, int(seq)):
            self.say(f"N {launch} floor")
            return
        if uid != "1000":
            self._refuse(launch, "uid")
            return
        if boot != node.boot and node.guards.boot:
            self._refuse(launch, "boot")
            return
        if spool.deleted:
            self._refuse(launch, "spool")
            return
        seen = self.parts.pop(launch, 0)
        yield node.tick()
        if str(seen) != parts and parts != "0":
            self._abandon(launch, "space" if seen == "full" else "parts")
            return
        if node.disk_full:
            self._abandon(launch, "space")
            return
        spool.put(launch, "exit", "")
        node.world.happen("claimed", node, self.proc)
        yield node.tick()
        if parts == "0":
            for name, value in (("req", req), ("env", env), ("script", script)):
                spool.put(launch, name, value.encode("utf-8", "surrogateescape"))
        if not spool.get(launch, "req"):
            self._abandon(launch, "space")
            return
        yield node.tick()
        self._spawn(lambda: Supervisor(node, spool, launch) and None)

    def _abandon(self, launch: str, why: str) -> None:
        self._refuse(launch, why)
        for name in ("req", "env", "script", "exit"):
            self._spool.put(launch, name, None)

    def _spawn(self, work: Callable[[], None]) -> None:
        """A line into the spawner's FIFO; it outlives its runner until it has read all of it."""
        if self.spawner is None or not self.spawner.alive:
            self.spawn_queue = queue = deque()
            runner = self.proc
            self.spawner = spawner = Proc(self.node, "spawner")

            def steps() -> Steps:
                yield self.node.tick()
                while True:
                    if queue:
                        queue.popleft()()
                        yield self.node.tick()
                    elif runner.alive:
                        yield None
                    else:
                        return

            spawner.run(steps())
        self.spawn_queue.append(work)
        self.spawner.wake()

    def call_fence(self, launch: str, seq: str) -> Steps:
        result = self._take_fence(launch, int(seq))
        yield 0.0
        if result == "won":
            self.node.world.happen("fence_won", self.node, self.proc)
            self.say(f"A {launch} won")
        elif result == "forgotten":
            self.say(f"A {launch} lost-forgotten")
        elif result == "lost":
            self.say(f"A {launch} lost {self.entry(launch)}")
        else:
            self.say(f"E {launch} fence could not make a directory")

    def _take_fence(self, launch: str, seq: int) -> str:
        node, spool = self.node, self._spool
        go = spool.get(launch, "go")
        if go is None:
            if spool.deleted or node.disk_full:
                return "failed"
            if spool.get(launch, "run") is not None or (spool.get(launch, "exit") or "") not in ("", "unstarted"):
                spool.put(launch, "go", "file")  # the file that stood here was lost, and it has run
                return "lost"
            spool.put(launch, "go", "directory")
            if is_settled(node, spool, seq):
                spool.put(launch, "go", None)
                return "forgotten"
            return "won"
        return "won" if go == "directory" else "lost"

    def call_limit(self, launch: str, _seq: str, _limit: str) -> Steps:
        yield self.node.tick()
        self.say(f"K {launch} asked")

    def call_kill(self, launch: str, seq: str, mode: str, signal: str, grace: str) -> Steps:
        spool, node = self._spool, self.node
        if mode not in ("cancel", "requeue"):
            job = self._job_of(launch)
            if job is None:
                self.say(f"K {launch} gone")
            elif mode == "signal-steps":  # there are none here
                self.say(f"K {launch} signalled")
            else:
                job.signal({"suspend": "STOP", "resume": "CONT"}.get(mode, signal))
                self.say(f"K {launch} signalled")
            return
        if spool.get(launch, "go") != "file":
            result = self._take_fence(launch, int(seq))
            if result in ("won", "forgotten"):
                self.say(f"K {launch} {'never' if result == 'won' else result}")
                return
            if result == "failed":
                self.say(f"E {launch} kill could not make a directory")
                return
        yield node.tick()
        record = spool.get(launch, "exit") or ""
        supervisor = self._supervisor_of(launch)
        job = self._job_of(launch)
        if record.startswith("1 "):
            self.say(f"K {launch} gone")
        elif supervisor is not None:
            if not node.disk_full:
                spool.put(launch, "cancel", (signal, int(grace)))
            supervisor.asked = True
            supervisor.go_on()  # somebody may have stopped it
            supervisor.wake()
            self.say(f"K {launch} asked")
        elif job is not None:
            self.say(f"K {launch} killing")
            self._spawn(lambda: kill_orphan(node, spool, launch, job, signal, int(grace)))
        else:
            self.say(f"K {launch} gone")

    def call_ack(self, tag: str, high: str, open_text: str, *ids: str) -> Steps:
        spool = self._spool
        if spool.deleted:
            self.say(f"E {tag} ack floor could not be written")
            return
        yield from self._raise_floor(int(high), open_text)
        self.node.world.happen("ack_floor_raised", self.node, self.proc)
        yield self.node.tick()
        for launch in ids:
            if ID.fullmatch(launch):
                spool.remove(launch)
        self.say(f"C {tag} 1")

    def call_list(self, tag: str) -> Steps:
        spool = self._spool
        if spool.deleted:
            self.say(f"E {tag} list the spool is gone")
            return
        self.say(f"L {tag} begin 1")
        count = 0
        for launch in sorted(spool.files):
            fields = spool.files.get(launch)
            if fields is None or ("exit" not in fields and "go" not in fields):
                continue
            # Order matters: supervisor first, then job, and the record once more if both are dead.
            go, record = fields.get("go"), fields.get("exit") or ""
            yield self.node.tick() * 0.1
            supervisor = self._supervisor_of(launch) is not None
            yield self.node.tick() * 0.1
            self.say(f"L {tag} entry {self.entry(launch, go=go, record=record, supervisor=supervisor)}")
            count += 1
        self.say(f"L {tag} end {count}")

    def call_sweep(self, tag: str, *ids: str) -> Steps:
        """What carries the cookie of an ended attempt goes, whoever forgot it."""
        killed = 0
        for launch in ids:
            if self._supervisor_of(launch) is None and self._job_of(launch) is None:
                for proc in [p for p in self.node.procs.values() if p.kind == "job" and p.launch == launch]:
                    proc.signal("KILL")
                    killed += 1
        self.say(f"W {tag} {killed} -")
        yield 0.0

    def call_probe(self, tag: str) -> Steps:
        node = self.node
        facts = [
            ("kernel", "6.1"), ("arch", "x86_64"), ("hostname", node.name), ("cpus", str(node.cpus)), ("memory_kib", "8388608"),
            ("memory_free_kib", "4194304"), ("os", "Simulated"), ("load1", "0.10"), ("uptime", f"{node.uptime_s:.2f}"),
            ("clock", str(node.wall_at)), ("machine", f"{hash_of(node.name):032x}"),
            ("room", self._room()),
        ]  # fmt: skip
        yield node.tick() * 10
        for key, value in facts:
            self.say(f"F {tag} {key} {value}")
        self.say(f"F {tag} . {len(facts)}")

    # ---- looking ---------------------------------------------------------------------------------------------

    @property
    def _spool(self) -> Spool:
        assert self.spool is not None
        return self.spool

    def _find(self, launch: str, name: str) -> Proc | None:
        found = self._spool.get(launch, name)
        if found is None or not self.node.is_alive(*found[:3]):
            return None
        return self.node.procs[found[0]]

    def _supervisor_of(self, launch: str) -> Proc | None:
        return self._find(launch, "sup")

    def _job_of(self, launch: str) -> Proc | None:
        return self._find(launch, "run")

    def entry(
        self, launch: str, *, go: str | None = None, record: str | None = None, supervisor: bool | None = None
    ) -> str:
        """All that is known of a launch, as the words of a reply."""
        spool = self._spool
        fields: dict[str, Any] = spool.files.get(launch, {}) if not spool.deleted else {}
        if go is None:
            go = fields.get("go")
        if record is None:
            record = fields.get("exit") or ""
        if go is None and ("run" in fields or record.startswith("1 ") or record == "!"):
            go = "file"
        seq = job_id = attempt = 0
        if fields.get("req"):
            words = fields["req"].split(b"\n", 1)[0].split()
            seq, job_id, attempt = int(words[2]), int(words[3]), int(words[4])
        alive, pid, start, since = False, 0, 0, "-"
        intact = record.startswith(f"1 {launch} ")
        if not intact:
            if supervisor is None:
                supervisor = self._supervisor_of(launch) is not None
            alive = self._job_of(launch) is not None
            if "run" in fields:
                pid, start, since = fields["run"][0], fields["run"][1], f"{fields['run'][3]:.2f}"
            if not supervisor and not alive:
                record = fields.get("exit") or ""
                intact = record.startswith("1 ")
        last = record if intact else ("!" if record and not supervisor else "-")
        return (
            f"{launch} {seq} {job_id} {attempt} {int('exit' in fields)} {go or 'none'} {int(bool(supervisor and not intact))}"
            f" {int(alive)} {pid} {start} {since} {last}"
        )

    def _read_file(self) -> Steps:
        """A second channel: the head line, then the bytes."""
        while b" END\n" not in self.buffer and not self.eof:
            yield None
        found = READ.search(self.buffer)
        path = re.search(rb"read_file '([^']*)' END\n", self.buffer)
        if found is None or path is None:
            return
        nonce = found[1].decode()
        spool_tag, _, rest = path[1].decode().removeprefix(f"/spool/{self.node.name}/").partition("/a/")
        launch, _, name = rest.partition(".")
        spool = next((s for s in self.node.spools.values() if s.spool_id.startswith(spool_tag)), None)
        data = spool.get(launch, name) if spool is not None else None
        yield self.node.tick()
        if data is None:
            self.say(f"SSHQ-READ {nonce} error missing")
        else:
            self.say(f"SSHQ-READ {nonce} {self.proc.pid} {self.proc.start} {len(data)}")
            if data:
                self.pipe_down.send(data)


def hash_of(name: str) -> int:
    """A machine id of its own for each machine."""
    return int.from_bytes(name.encode()[:16], "big") + 1

