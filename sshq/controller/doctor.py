"""`sshq doctor`: looks at hosts over connections of its own, side by side and bounded, and never disturbs a live runner.

The runner is asked itself, in a scratch spool that is removed afterwards: with the controller's own store id it would
take over from the live one.  What a runner cannot tell (it did not start, or a second channel is not to be had) a plain
shell is asked, by builtins as far as possible.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from sshq.controller.doctor_checks import (
    SESSION_TOOLS,
    TOOLS_NEEDED,
    Check,
    Look,
    Place,
    Silence,
    judge_channels,
    judge_clock,
    judge_connect_failure,
    judge_connection,
    judge_logout,
    judge_machine,
    judge_noise,
    judge_options,
    judge_refused_channel,
    judge_signals,
    judge_silence,
    judge_spool,
    judge_staging,
    judge_tools,
    judge_unusable,
)
from sshq.controller.doctor_gpus import judge_gpus
from sshq.controller.gpuwatch import GpuLook
from sshq.controller.hosts import target_of
from sshq.errors import NodeError, NoReplyError
from sshq.inventory.facts import Facts, parse_facts
from sshq.inventory.gpufacts import find_uses, parse_gpus_answer, parse_owners
from sshq.inventory.model import Host
from sshq.runner import protocol as rp
from sshq.runner.calls import encode_gpus, encode_who
from sshq.transport.base import Channel, ChannelRefusedError, Connection, Target, Transport
from sshq.transport.sshconfig import find_ignored_options

EXAMINATION_S: Final = 30.0  # of all hosts; taking leave of those cut short may take 7 s more
SIDE_BY_SIDE: Final = 64
HELLO_S: Final = 12.0
FACTS_S: Final = 12.0
LOOK_S: Final = 8.0
PURGE_S: Final = 2.0
SCRATCH: Final = "doctor-"  # spools of this name are nobody's

R = TypeVar("R")


async def examine_hosts(
    hosts: Sequence[Host], transport: Callable[[Target], Transport], *, store_id: str, local_base: str | None
) -> list[Mapping[str, object]]:
    """Return what the wire method `doctor` has under `hosts`, in the order given."""
    turns = asyncio.Semaphore(SIDE_BY_SIDE)
    found = [Examination(host, transport, store_id, local_base) for host in hosts]

    async def examine(one: Examination) -> None:
        async with turns:
            await one.run()

    tasks = [asyncio.create_task(examine(one), name=f"doctor {one.host.name}") for one in found]
    try:
        if tasks:
            await asyncio.wait(tasks, timeout=EXAMINATION_S)
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for one, outcome in zip(found, outcomes, strict=True):
        if isinstance(outcome, asyncio.CancelledError):
            one.checks.append(Check(check=one.stage, verdict="fail", detail=f"no end within {EXAMINATION_S:.0f} s: {one.doing}"))
        elif isinstance(outcome, BaseException):
            raise outcome
    return [one.as_json() for one in found]


@dataclass(slots=True)
class Examination:
    """One host's turn; what was found so far stays when time runs out."""

    host: Host
    transport: Callable[[Target], Transport]
    store_id: str
    local_base: str | None
    stage: str = "connection"
    doing: str = "its turn did not come"
    checks: list[Check] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.host.name,
            "ok": all(check.verdict != "fail" for check in self.checks),
            "checks": [check.as_json() for check in self.checks],
        }

    async def run(self) -> None:
        """Go as far as the host lets us."""
        target = target_of(self.host)
        self.doing = "connecting"
        if self.host.connection == "ssh":
            self.checks += judge_options(find_ignored_options(target))
        began_at = time.monotonic()
        try:
            connection = await self.transport(target).connect()
        except NodeError as error:
            self.checks.append(judge_connect_failure(error))
            return
        try:
            took_s = time.monotonic() - began_at
            self.checks += judge_connection(connection.greeting, took_s, connection.rtt_s, self.host)
            await self._examine_shell(connection)
        except NodeError as error:
            self.checks.append(judge_connect_failure(error))
        finally:
            await connection.close()

    async def _examine_shell(self, connection: Connection) -> None:
        self.stage, self.doing = "shell", "starting the runner"
        runner = ScratchRunner(connection, self.host, self.local_base)
        try:
            await runner.start(HELLO_S)
        except ChannelRefusedError as error:
            self.checks.append(judge_refused_channel(error, self.host))
            return
        try:
            if runner.hello is not None:
                await self._examine_runner(connection, runner, runner.hello)
                return
        finally:
            await runner.leave()
        self.doing = "asking a plain shell"
        look, _ = await look_around(connection, self._look_script(None, runner.scratch), patient=True)
        if runner.unusable is not None:
            self.checks.append(judge_noise(runner.noise, b"", self.host))
            self.checks += judge_unusable(runner.unusable, look, self.host)
        else:
            self.checks.append(judge_silence(runner.silence(), look, self.host))

    async def _examine_runner(self, connection: Connection, runner: "ScratchRunner", hello: rp.Hello) -> None:
        self.checks.append(judge_noise(runner.noise, runner.greeting_stderr, self.host, hello))
        self.stage, self.doing = "channels", "asking a plain shell"
        look, refused = await look_around(connection, self._look_script(hello, runner.scratch))
        self.stage, self.doing = "machine", "waiting for its facts"
        facts = await runner.facts(FACTS_S)
        missing = look.missing if look.shell else [tool for tool in TOOLS_NEEDED if facts and tool not in facts.tools]
        self.checks.append(judge_tools(missing, self.host))
        self.checks += judge_staging(look.unstaged)
        self.checks += judge_spool(hello, facts, look)
        self.checks.append(judge_clock(hello.clock_at, runner.asked_at, runner.answered_at))
        self.checks.append(judge_signals(hello.signals))
        self.checks.append(judge_channels(refused))
        if facts is None:
            told = f"told no facts within {FACTS_S:.0f} s: some command hangs there"
            self.checks.append(Check(check="machine", verdict="warn", detail=told))
        else:
            self.checks.append(judge_logout(facts, hello, self.host))
            self.checks += judge_machine(facts, self.host)
            self.checks += judge_gpus(await runner.gpus(FACTS_S), self.host)

    def _look_script(self, hello: rp.Hello | None, scratch: str) -> "LookScript":
        if hello is not None:
            return LookScript(bases=(hello.spool.rpartition("/spool/")[0],), store_id=self.store_id, scratch="")
        base = base_of(self.host, self.local_base)
        return LookScript(bases=() if base is None else (base,), store_id="", scratch=scratch)


def base_of(host: Host, local_base: str | None) -> str | None:
    """Return where the spool is asked to be; None leaves the choice to the runner."""
    return host.spool or (local_base if host.connection == "local" else None)


class ScratchRunner:
    """A runner in a spool of its own that goes away with it: for questions only, it starts no job."""

    def __init__(self, connection: Connection, host: Host, local_base: str | None) -> None:
        self.scratch = SCRATCH + secrets.token_hex(8)
        self.hello: rp.Hello | None = None
        self.unusable: rp.Unusable | None = None
        self.greeting_stderr = b""
        self.asked_at = self.answered_at = 0.0
        self._connection, self._host, self._base = connection, host, base_of(host, local_base)
        self._nonce = secrets.token_hex(8)
        self._parser = rp.ReplyParser(self._nonce)
        self._replies: list[rp.Reply] = []
        self._channel: Channel | None = None
        self._said = b""
        self._ended = False
        self._exit_code: int | None = None
        self._waited_s = 0.0

    @property
    def noise(self) -> bytes:
        """What came before the runner's first line."""
        return self._parser.noise

    async def start(self, deadline_s: float) -> None:
        """Set `hello` or `unusable`; neither, if no runner answered.  Raises ChannelRefusedError."""
        # bulk: on this machine itself, no scope is made for a question
        channel = self._channel = await self._connection.open(bulk=self._host.connection == "local")
        self._waited_s = deadline_s
        self.asked_at = time.time()
        channel.write(
            rp.encode_bootstrap(nonce=self._nonce, store_id=self.scratch, base=self._base, force_spool=self._host.spool_forced)
        )
        reply = await self._await((rp.Hello, rp.Unusable), deadline_s)
        self.answered_at = time.time()
        self.greeting_stderr = bytes(channel.stderr)
        if isinstance(reply, rp.Hello):
            self.hello = reply
        elif isinstance(reply, rp.Unusable):
            self.unusable = reply
        elif self._ended:
            with contextlib.suppress(NodeError):
                self._exit_code = await channel.wait_closed(deadline_s=2.0)

    def silence(self) -> Silence:
        """What came instead of a runner."""
        stderr = b"" if self._channel is None else bytes(self._channel.stderr)
        return Silence(said=self._said, stderr=stderr, ended=self._ended, exit_code=self._exit_code, waited_s=self._waited_s)

    async def facts(self, deadline_s: float) -> Facts | None:
        """Ask for the facts; None if they do not come in time."""
        reply = await self._ask(lambda tag: rp.encode_probe(tag=tag), rp.FactsReply, deadline_s)
        return None if reply is None else parse_facts(reply.facts)

    async def gpus(self, deadline_s: float) -> GpuLook | None:
        """Look at its GPUs; None if it does not tell in time."""
        reply = await self._ask(lambda tag: encode_gpus(tag=tag), rp.FactsReply, deadline_s)
        if reply is None:
            return None
        answer = parse_gpus_answer(reply.facts)
        pids = answer.pids
        who = await self._ask(lambda tag: encode_who(tag=tag, pids=pids), rp.FactsReply, deadline_s) if pids else None
        owners = parse_owners(who.facts) if who is not None else {}
        return GpuLook(answer=answer, uses=find_uses(answer, owners, self._host.gpu_idle_mib))

    async def leave(self) -> None:
        """Remove the scratch spool and let go of the channel."""
        if self._channel is None:
            return
        try:
            if self.hello is not None and not self._ended:
                await self._ask(lambda tag: rp.encode_purge(tag=tag), rp.Purged, PURGE_S)
        finally:
            self._channel.close()

    async def _ask(self, encode: Callable[[str], bytes], answer: type[R], deadline_s: float) -> R | None:
        if self._channel is None:
            return None
        self._channel.write(encode(secrets.token_hex(6)))
        reply = await self._await((answer,), deadline_s)
        return reply if isinstance(reply, answer) else None

    async def _await(self, wanted: tuple[type[object], ...], deadline_s: float) -> rp.Reply | None:
        """Return the first reply of these kinds; None at the deadline or the channel's end."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + deadline_s
        while True:
            while self._replies:
                reply = self._replies.pop(0)
                if isinstance(reply, wanted):
                    return reply
            if self._ended or self._channel is None:
                return None
            try:
                data = await self._channel.read(deadline_s=max(0.01, ends_at - loop.time()))
            except NoReplyError:
                return None
            self._ended = not data
            self._said = (self._said + data)[: rp.NOISE_MAX] if self.hello is None else b""
            self._replies += self._parser.feed(data)


# ---- a plain shell -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LookScript:
    """What a plain shell is asked: tools, room where spools could be, launches of a store; and to remove a scratch spool."""

    bases: tuple[str, ...]
    store_id: str
    scratch: str

    def encode(self, nonce: str) -> bytes:
        """Return the shell's input.  The answers that need no process come first, what may hang (df) last."""
        bases = b" ".join(map(rp.quote, self.bases)) or b'"$HOME/.local/state/sshq" "/var/tmp/sshq-$(id -u)"'
        head = f"NONCE={nonce} STORE={self.store_id} SCRATCH={self.scratch} TOOLS='{' '.join(TOOLS_NEEDED)}'\n"
        return head.encode() + _LOOK + b"look " + bases + b"\nsay end\nexit 0\n"


# A scratch spool an hour old was left by a doctor who was cut off.
_LOOK: Final = rb"""LC_ALL=C PATH=${PATH:-/usr/bin:/bin}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
export LC_ALL PATH
say() { printf 'SSHQ-LOOK %s %s\n' "$NONCE" "$*"; }
has() { command -v "$1" >/dev/null 2>&1; }
column() { tail -n 1 | { read -r _ _ _ FREE _ && printf '%s' "$FREE"; }; }
look() {
    say shell
    for TOOL in $TOOLS; do has "$TOOL" || say missing "$TOOL"; done
    has setsid || has perl || has python3 || say missing setsid, perl or python3
    for TOOL in tar xargs uniq; do has "$TOOL" || say unstaged "$TOOL"; done
    has sha256sum || has shasum || has openssl || say unstaged sha256sum, shasum or openssl
    for BASE in "$@"; do
        case $BASE in '~/'*) BASE=$HOME/${BASE#??} ;; /*) ;; *) BASE=$HOME/$BASE ;; esac
        set -- "$BASE/spool/$STORE"/a/*.exit
        [ -z "$STORE" ] || [ ! -e "$1" ] || say launches $#
        [ -z "$SCRATCH" ] || rm -rf "$BASE/spool/$SCRATCH"
        find "$BASE/spool" -maxdepth 1 -name 'doctor-*' -mmin +60 -exec rm -rf {} \;
        PLACE=$BASE
        while [ ! -d "$PLACE" ]; do
            case $PLACE in */*) PLACE=${PLACE%/*} ;; *) PLACE=/ ;; esac
            [ -n "$PLACE" ] || PLACE=/
        done
        WRITABLE=0
        [ ! -w "$PLACE" ] || WRITABLE=1
        FREE=$(df -Pk "$PLACE" | column)
        INODES=$(df -Pi "$PLACE" | column)
        say place "$WRITABLE" "${FREE:--}" "${INODES:--}" "$PLACE"
    done
} 2>/dev/null
"""


async def look_around(
    connection: Connection, script: LookScript, *, patient: bool = False
) -> tuple[Look, ChannelRefusedError | None]:
    """Ask a plain shell on a channel of its own; what it told until it hung counts.

    `patient`: a channel was closed just now, and sshd may need a moment to see that it has a place free.
    """
    look, nonce = Look(), secrets.token_hex(8)
    ends_at = time.monotonic() + LOOK_S
    while True:
        try:
            async with asyncio.timeout(LOOK_S):
                channel = await connection.open(bulk=connection.target.connection == "local")
            break
        except ChannelRefusedError as error:
            if not patient or time.monotonic() > ends_at - LOOK_S + 2:
                return look, error
            await asyncio.sleep(0.1)
        except TimeoutError:
            return look, None
    try:
        channel.write(script.encode(nonce))
        told = b""
        with contextlib.suppress(NoReplyError):
            while len(told) < 65536 and (data := await channel.read(deadline_s=max(0.01, ends_at - time.monotonic()))):
                told += data
    finally:
        channel.close()
    for line in told.decode("utf-8", "replace").split("\n"):
        mark, _, rest = line.partition(f"SSHQ-LOOK {nonce} ")
        if rest and not mark:
            _take_line(look, rest)
    return look, None


def _take_line(look: Look, line: str) -> None:
    """Read one line of the answer; hostile input, what does not fit is passed over."""
    word, _, rest = line.partition(" ")
    if word == "shell":
        look.shell = True
    elif word == "missing" and len(look.missing) < len(TOOLS_NEEDED) + len(SESSION_TOOLS):
        look.missing.append(rest[:60])
    elif word == "unstaged" and len(look.unstaged) < 4:
        look.unstaged.append(rest[:60])
    elif word == "launches":
        look.launches = _number(rest) or 0
    elif word == "place" and len(words := rest.split(" ", 3)) == 4:
        writable, free, inodes, path = words
        if path.isprintable():
            look.places.append(Place(path=path, writable=writable == "1", free_kib=_number(free), free_inodes=_number(inodes)))


def _number(word: str) -> int | None:
    return int(word) if word.isascii() and word.isdigit() and len(word) < 16 else None
