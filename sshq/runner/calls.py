"""Calls to the runner: how each is written.  The other half is `call_*` in runner.sh.

Everything that is data is single-quoted, whatever its bytes, and the last word of a call is `END-` and its tag or ID: the
function does nothing without it, so that a call cut off by a lost connection is never obeyed.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

from sshq.runner.commands import UPCALL_NAMES, srun_program, strip_comments, upcall_program

PROTOCOL: Final = 1
PROGRAM_FILES: Final = (
    "runner.sh", "supervisor.sh", "lease.sh", "limits.sh", "job.sh", "box.sh", "start.sh", "calls.sh", "facts.sh", "gpus.sh",
    "parts.sh", "steps.sh", "answers.sh", "pythons.sh",
)  # fmt: skip
INLINE_MAX: Final = 16_384  # a larger launch is sent ahead in parts, so that nothing holds the runner for long
PART_MAX: Final = 12_288
SHORT: Final = 512  # letters of a variable's value whose line is remembered
IDS_MAX: Final = 500  # of one ack or sweep: its command line on the node stays far below any limit

ABOUT: Final = b"# about "  # begins the second line of a request; anywhere else it is data

_ID = re.compile(r"[0-9a-f]{32}")
_TAG = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_BOOT = re.compile(r"[0-9a-z:-]{1,100}")

GIVEN_NAMES: Final = frozenset({"SSHQ_RESULT", "SSHQ_PYTHON"})  # what the controller tells a call; a submitted one gets nowhere
# Read-only or magic in one of the shells that may be /bin/sh: assigning these would end it, or change its uid (zsh).
UNSAFE_NAMES: Final = frozenset(
    """BASHOPTS BASHPID BASH_ALIASES BASH_ARGC BASH_ARGV BASH_CMDS BASH_COMMAND BASH_LINENO BASH_SOURCE BASH_SUBSHELL
    BASH_VERSINFO DIRSTACK EGID EPOCHREALTIME EPOCHSECONDS ERRNO EUID FUNCNAME GID GROUPS HISTCMD IFS KEYBOARD_HACK
    KSH_VERSION LINENO OLDPWD OPTIND PPID PWD RANDOM SECONDS SHELLOPTS SHLVL SRANDOM TRY_BLOCK_ERROR TRY_BLOCK_INTERRUPT
    TTYIDLE UID USERNAME ZSH_EVAL_CONTEXT ZSH_SUBSHELL _ histchars signals""".split()  # noqa: SIM905
)
# Numbers to one of those shells, which evaluates anything else as arithmetic: an error, and the job would not start.
NUMBER_NAMES: Final = frozenset("COLUMNS FUNCNEST HISTSIZE JOBMAX LINES MAILCHECK SAVEHIST TMOUT".split())  # noqa: SIM905

_SIGNAL_NAMES: Final = """
    HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU
    XFSZ VTALRM PROF WINCH IO PWR SYS""".split()  # noqa: SIM905
# Linux's numbers.  Names are what is sent: zsh takes no number, and architectures differ in them.
SIGNALS: Final[Mapping[int, str]] = dict(enumerate(_SIGNAL_NAMES, start=1))

KILL_MODES: Final = ("cancel", "requeue", "signal", "signal-steps", "signal-batch", "signal-full", "suspend", "resume")


@dataclass(slots=True, kw_only=True)  # not frozen: it is made once a launch, and its forty fields would take 10 µs more
class LaunchCall:
    """One launch.  Strings may hold any bytes but NUL (as surrogate escapes).

    `stdout` None is the launch's own file in the spool, `stderr` None joins it to stdout, `work_dir` None is a directory of
    the launch in the spool.  Relative paths are relative to `work_dir`.  `interpreter` must not be empty: the script is
    never exec'ed itself.  `warn_signal` is (signal number, seconds before the limit, batch script only).
    """

    id: str
    job_id: int
    attempt: int
    seq: int
    epoch: int
    uid: int
    boot: str
    node: str
    script: bytes
    limit_s: int | None = None
    grace_s: int = 30
    nice: int = 0
    work_dir: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    stdin: str = "/dev/null"
    append: bool = False
    umask: int = 0o022
    interpreter: tuple[str, ...] = ("/bin/sh",)
    args: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    common: Mapping[str, str] = field(default_factory=dict)  # variables of many launches alike; those in `environ` win
    has_tree: bool = False  # its directory in the spool was built already: it must be there
    below: str = ""  # where in that tree it starts
    own_home: bool = False
    warn_signal: tuple[int, int, bool] | None = None
    mem_limit_mib: int | None = None
    limits: tuple[tuple[str, int], ...] = ()  # soft limits by their names (NOFILE), in bytes, -1 for none
    slot: int | None = None
    lease_s: int | None = None  # it ends unless renewed; counted from `lease_from_s` of the node's uptime, which was read there
    lease_from_s: int = 0
    lease_grace_s: int = 0  # from TERM to KILL, then
    about: str = ""  # one line of the caller's own, kept with the request for whoever has to rebuild a lost store


@cache
def program() -> bytes:
    """Return what runs on a node, without comment and blank lines; read once in the life of the process."""
    text = b"\n".join(Path(__file__).with_name(name).read_bytes() for name in PROGRAM_FILES)
    return strip_comments(text)


def quote(value: str | bytes) -> bytes:
    """Return one shell word, whatever the bytes.  ValueError on NUL, which no shell can hold."""
    raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    if b"\0" in raw:
        raise ValueError("a NUL byte cannot be passed to a program")
    return b"'" + raw.replace(b"'", b"'\\''") + b"'"


def _call(name: str, *args: str | bytes | int, end: str) -> bytes:
    return _join(name, map(_word, args), end)


def _quote_text(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def _word(value: str | bytes | int) -> bytes:
    return quote(str(value) if isinstance(value, int) else value)


def _join(name: str, words: Iterable[bytes], end: str) -> bytes:
    return b" ".join([name.encode(), *words, b"END-" + end.encode()]) + b"\n"


write_call = _call  # for parts.py, pythons.py


def _check(pattern: re.Pattern[str], value: str, what: str) -> str:
    if not pattern.fullmatch(value):
        raise ValueError(f"not a {what}: {value!r}")
    return value


def _natural(value: int, what: str) -> int:
    if value < 0:
        raise ValueError(f"{what} is negative: {value}")
    return value


def _open(open_seqs: Collection[int]) -> str:
    return " ".join(str(_natural(s, "seq")) for s in sorted(open_seqs))


def _ids(ids: Collection[str]) -> Sequence[str]:
    if len(ids) > IDS_MAX:
        raise ValueError(f"{len(ids)} ids in one call, at most {IDS_MAX}")
    return [_check(_ID, i, "launch id") for i in ids]


def signal_name(signal: int | str) -> str:
    """Return the name without SIG, of a Linux signal number or a name with or without it."""
    name = SIGNALS.get(signal, "") if isinstance(signal, int) else signal.upper().removeprefix("SIG")
    if name.isdigit():
        name = SIGNALS.get(int(name), "")
    if name not in SIGNALS.values():
        raise ValueError(f"unknown signal {signal!r}")
    return name


def encode_bootstrap(
    *, nonce: str, store_id: str, base: str | None = None, force_spool: bool = False, nice: int = 0, scope: bool = False,
    shell: str = "/bin/sh",
) -> bytes:  # fmt: skip
    """Return the first bytes for a channel that runs `exec /bin/sh`; the answer is Hello or Unusable.

    Args:
        nonce: fresh and unguessable, so that noise before the answer cannot be mistaken for it.
        store_id: whose spool; two controllers of one account never share one.
        base: the parent directory of spools (`sshq_spool`); None chooses a local file system.
        force_spool: accept a file system that other hosts may share.
        nice: niceness of supervisors and jobs; set once, because a process to set it would cost each job 1 ms.
        scope: start jobs in a `systemd-run --scope`, outside the login's control group, where that works.
        shell: the sh for the spawner; tests vary it.
    """
    _check(_TAG, nonce, "nonce")
    _check(_TAG, store_id, "store id")
    if store_id.startswith("."):
        raise ValueError(f"not a store id: {store_id!r}")
    if not 0 <= nice <= 19:
        raise ValueError(f"nice is not in 0..19: {nice}")
    mark, srun = srun_program()
    text = b"PROGRAM=" + quote(program()) + b'\neval "$PROGRAM"\n'
    text += b"SRUN_MARK=" + mark.encode() + b" SRUN_TEXT=" + quote(srun) + b"\n"
    mark, upcall = upcall_program()
    text += b"UPCALL_MARK=" + mark.encode() + b" UPCALL_NAMES=" + quote(" ".join(UPCALL_NAMES))
    text += b" UPCALL_TEXT=" + quote(upcall) + b"\n"
    call = _call("boot", nonce, store_id, base or "", int(force_spool), nice, int(scope), shell, end=nonce)
    return text + call


def encode_reserve(*, tag: str, old_gen: int, new_gen: int, high: int, open_seqs: Collection[int]) -> bytes:
    """Take generation `new_gen` if the node is at `old_gen`, settling all seqs up to `high` but the open.  -> Reserved"""
    _check(_TAG, tag, "tag")
    if not 0 <= old_gen < new_gen:
        raise ValueError(f"generation {new_gen} does not follow {old_gen}")
    return _call("call_reserve", tag, old_gen, new_gen, _natural(high, "seq"), _open(open_seqs), end=tag)


def encode_probe(*, tag: str) -> bytes:
    """Ask for the facts; may take seconds, holds up nothing.  -> FactsReply"""
    return _call("call_probe", _check(_TAG, tag, "tag"), end=tag)


def encode_gpus(*, tag: str) -> bytes:
    """Ask what the tools of GPU makers say; may take ten seconds, holds up nothing.  -> FactsReply"""
    return _call("call_gpus", _check(_TAG, tag, "tag"), end=tag)


def encode_who(*, tag: str, pids: Collection[int]) -> bytes:
    """Ask whose some processes are.  -> FactsReply"""
    return _call("call_who", _check(_TAG, tag, "tag"), *(_natural(pid, "pid") for pid in pids), end=tag)


def dropped_names(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the variables a job does not get: no identifiers (exported functions too), magic in some sh, or ours.

    On all nodes alike, whatever their shell, so that a job does not depend on where it runs.
    """
    return tuple(name for name, value in environ.items() if is_dropped(name, value))


def is_dropped(name: str, value: str) -> bool:
    """Return whether a job does not get this variable."""
    if not _NAME.fullmatch(name) or name in UNSAFE_NAMES or (name.startswith("SSHQ_") and name not in GIVEN_NAMES):
        return True
    return name in NUMBER_NAMES and not _NUMBER.fullmatch(value)


def _environment(call: LaunchCall) -> bytes:
    common, common_locales = _write_common(tuple(call.common.items()), tuple(call.environ))
    lines, locales = _write_lines(call.environ.items())
    # Locales last: ksh refuses one it does not have, and reads no further.
    return common + lines + b"SSHQ_WHOLE=1\n" + common_locales + locales  # without that line it was damaged on the node


@lru_cache(maxsize=8)  # the tasks of an array have all but a dozen lines in common
def _write_common(items: tuple[tuple[str, str], ...], others: tuple[str, ...]) -> tuple[bytes, bytes]:
    return _write_lines([item for item in items if item[0] not in others])


def _write_lines(items: Iterable[tuple[str, str]]) -> tuple[bytes, bytes]:
    """Return the lines that set these variables, those of locales by themselves."""
    lines: list[bytes] = []
    locales: list[bytes] = []
    for name, value in items:
        if value.isdecimal() and value.isascii() and _takes_numbers(name):
            line = f"export {name}='{value}'\n".encode()
        else:
            line = _export_short(name, value) if len(value) < SHORT else _export(name, value)
        (locales if name.startswith("LC_") or name == "LANG" else lines).append(line)
    return b"".join(lines), b"".join(locales)


def _export(name: str, value: str) -> bytes:
    return b"" if is_dropped(name, value) else b"export " + name.encode() + b"=" + quote(value) + b"\n"


@lru_cache(maxsize=1024)
def _takes_numbers(name: str) -> bool:
    """Return whether any number may be the value of this variable."""
    return name not in NUMBER_NAMES and not is_dropped(name, "0")


_export_short = lru_cache(maxsize=8192)(_export)  # most are those of the launch before


def _request(call: LaunchCall) -> bytes:
    """Return the request file: assignments, and the command as a function, so that words stay words."""
    head = f"# 1 {call.seq} {call.job_id} {call.attempt} {call.epoch}\n"
    if call.about:
        head += f"{ABOUT.decode()}{call.about}\n"  # a comment: no shell ever looks at it
    slot = "" if call.slot is None else call.slot
    own = f"job_id='{call.job_id}'\njob_seq='{call.seq}'\njob_slot='{slot}'\n"
    own += f"job_out={_quote_text(call.stdout or '')}\njob_err={_quote_text(call.stderr or '')}\n"
    if call.has_tree:
        own += _assign({"job_tree": 1, "job_below": call.below})
    if call.lease_s is not None:
        own += _assign({
            "job_lease": max(1, call.lease_s), "job_lease_from": _natural(call.lease_from_s, "uptime"),
            "job_lease_grace": _natural(call.lease_grace_s, "grace"),
        })  # fmt: skip
    rest = _common_request(
        node=call.node, limit_s=call.limit_s, grace_s=call.grace_s, warn_signal=call.warn_signal, nice=call.nice,
        work_dir=call.work_dir, std_in=call.stdin, append=call.append, umask=call.umask, own_home=call.own_home,
        has_script=bool(call.script), limits=call.limits, interpreter=call.interpreter, args=call.args,
    )  # fmt: skip
    body = own.encode("utf-8", "surrogateescape")
    if b"\0" in body:
        raise ValueError("a NUL byte cannot be passed to a program")
    return head.encode() + body + rest


def _assign(values: Mapping[str, str | int]) -> str:
    return "".join([f"{name}={_quote_text(str(value))}\n" for name, value in values.items()])


@lru_cache(maxsize=64)
def _common_request(
    *, node: str, limit_s: int | None, grace_s: int, warn_signal: tuple[int, int, bool] | None, nice: int, work_dir: str | None,
    std_in: str, append: bool, umask: int, own_home: bool, has_script: bool, limits: tuple[tuple[str, int], ...],
    interpreter: tuple[str, ...], args: tuple[str, ...],
) -> bytes:  # fmt: skip
    """Return the lines of a request that the tasks of an array have in common."""
    warn: tuple[str, int, int] = ("", 0, 0)
    if warn_signal is not None:  # without a limit too: it may get one
        number, before_s, batch_only = warn_signal
        warn = (signal_name(number), _natural(before_s, "seconds"), int(batch_only))
    text = _assign({
        "job_format": 1, "job_node": node,
        "job_limit": "" if limit_s is None else max(1, limit_s), "job_grace": _natural(grace_s, "grace"),
        "job_warn_signal": warn[0], "job_warn_s": warn[1], "job_warn_batch": warn[2], "job_nice": nice,
        "job_work": work_dir or "", "job_in": std_in, "job_append": int(append), "job_umask": f"{umask:04o}",
        "job_own_home": int(own_home), "job_has_script": int(has_script),
        "job_limits": " ".join(f"{_check(_NAME, name, 'limit')}={value}" for name, value in limits),
    })  # fmt: skip
    body = text.encode("utf-8", "surrogateescape")
    if b"\0" in body:
        raise ValueError("a NUL byte cannot be passed to a program")
    words = b" ".join([*map(quote, interpreter), b'"$job_script"', *map(quote, args)])
    return body + b'with_command() { "$@" ' + words + b"; }\njob_whole=1\n"


def _check_launch(call: LaunchCall) -> None:
    _check(_ID, call.id, "launch id")
    _check(_BOOT, call.boot, "boot tag")
    for what, number in (("job_id", call.job_id), ("attempt", call.attempt), ("seq", call.seq), ("epoch", call.epoch)):
        _natural(number, what)
    if not call.interpreter or not call.interpreter[0]:
        raise ValueError("no interpreter")
    if call.work_dir is not None and not call.work_dir.startswith("/"):
        raise ValueError(f"work_dir is not absolute: {call.work_dir!r}")
    if not (call.about.isascii() and call.about.isprintable()):
        raise ValueError("what is told about a launch is not one line of printable ASCII")
    if not 0 <= call.umask <= 0o777:
        raise ValueError(f"not a umask: {call.umask:o}")


def encode_launch(call: LaunchCall) -> list[bytes]:
    """Return the writes of one launch, in order; other calls may go between.  -> Started, Refused or Known

    The bytes of script, arguments, environment and paths arrive unchanged.  May be sent again as a whole.
    """
    _check_launch(call)
    payload = {"req": _request(call), "env": _environment(call), "script": call.script}
    head = (call.id, call.seq, _natural(call.uid, "uid"), call.boot)
    quoted = [quote(blob) for blob in payload.values()]
    if sum(map(len, quoted)) <= INLINE_MAX:
        return [_join("call_launch", [*(_word(word) for word in (*head, 0)), *quoted], call.id)]
    parts: list[bytes] = []
    for kind, blob in payload.items():
        for number, chunk in enumerate(_chunks(blob)):
            parts.append(_call("call_part", call.id, len(parts) + 1, kind, int(number == 0), chunk, end=call.id))
    return [*parts, _call("call_launch", *head, len(parts), "", "", "", end=call.id)]


def _chunks(blob: bytes) -> list[bytes]:
    """Cut so that each piece is at most PART_MAX once quoted; an empty blob is one empty piece."""
    chunks: list[bytes] = []
    at = 0
    while at < len(blob) or not chunks:
        size = PART_MAX - 2
        while len(quote(blob[at : at + size])) > PART_MAX:
            size = size * 3 // 4
        chunks.append(blob[at : at + size])
        at += size
    return chunks


def encode_fence(*, id: str, seq: int) -> bytes:  # noqa: A002 - the launch's own word for it
    """Take the arbiter, so that the launch never starts.  -> FenceResult"""
    return _call("call_fence", _check(_ID, id, "launch id"), _natural(seq, "seq"), end=id)


def encode_kill(*, id: str, seq: int, mode: str, signal: int | str = "TERM", grace_s: int = 30) -> bytes:  # noqa: A002
    """End or signal a launch.  -> KillResult

    `cancel`: `signal`, `grace_s`, KILL, for the session and all strays, and the record says cancel; before the start it is a
    fence; repeated with a shorter grace it shortens.  `requeue`: as cancel, with another closing line.
    `signal`: the tasks of its steps, and if it has none all of it; `signal-steps`: those tasks, or nothing;
    `signal-full`: all of it; `signal-batch`: the script's process only; `suspend`, `resume`: STOP, CONT.
    """
    if mode not in KILL_MODES:
        raise ValueError(f"unknown mode {mode!r}: {', '.join(KILL_MODES)}")
    name = signal_name(signal)
    return _call("call_kill", _check(_ID, id, "launch id"), _natural(seq, "seq"), mode, name, _natural(grace_s, "grace"), end=id)


def encode_limit(*, id: str, seq: int, limit_s: int | None) -> bytes:  # noqa: A002
    """Set the time limit of a launch that runs or is to run; None for no limit.  -> KillResult "asked"

    May be repeated.  A supervisor of a release that did not know this call keeps the limit it started with.
    """
    limit = "none" if limit_s is None else str(max(1, limit_s))
    return _call("call_limit", _check(_ID, id, "launch id"), _natural(seq, "seq"), limit, end=id)


def encode_ack(*, tag: str, high: int, open_seqs: Collection[int], ids: Collection[str]) -> bytes:
    """Raise the floor, then remove the launches' files, output and private directories included.  -> Acked"""
    _check(_TAG, tag, "tag")
    return _call("call_ack", tag, _natural(high, "seq"), _open(open_seqs), *_ids(ids), end=tag)


def encode_list(*, nonce: str) -> bytes:
    """Ask for all launches.  -> Listing"""
    return _call("call_list", _check(_TAG, nonce, "nonce"), end=nonce)


def encode_sweep(*, tag: str, ids: Collection[str]) -> bytes:
    """Kill what still carries the cookie of these ended attempts.  -> Swept"""
    return _call("call_sweep", _check(_TAG, tag, "tag"), *_ids(ids), end=tag)


def encode_steps(*, tag: str, ids: Collection[str], live: bool) -> bytes:
    """Ask for the steps of launches, the running ones with what they use so far, or all there were.  -> Steps"""
    return _call("call_steps", _check(_TAG, tag, "tag"), int(live), *_ids(ids), end=tag)


def encode_end_step(*, tag: str, id: str, number: int, signal: int | str | None, grace_s: int = 30) -> bytes:  # noqa: A002
    """End a running step (no signal: TERM, and KILL after the grace), or signal it.  -> Steps, with it if it ran"""
    name = "" if signal is None else signal_name(signal)
    launch_id = _check(_ID, id, "launch id")
    return _call("call_end_step", _check(_TAG, tag, "tag"), launch_id, _natural(number, "step"), name, grace_s, end=tag)


def encode_shared(*, tag: str, path: str, name: str, content: str) -> bytes:
    """Ask whether directory `path` is here with a file `name` whose first line is `content`.  -> SharedResult"""
    if not path.startswith("/") or "/" in name or not content or "\n" in content:
        raise ValueError(f"not a proof of {path!r}")
    return _call("call_shared", _check(_TAG, tag, "tag"), path, name, content, end=tag)


def encode_load(*, tag: str) -> bytes:
    """-> Load"""
    return _call("call_load", _check(_TAG, tag, "tag"), end=tag)


def encode_ping(*, tag: str) -> bytes:
    """-> Pong"""
    return _call("call_ping", _check(_TAG, tag, "tag"), end=tag)


def encode_renew(*, tag: str, uptime_s: int) -> bytes:
    """Have all jobs with a lease count it from this moment of the node's uptime, as a Pong told it.  -> Pong"""
    return _call("call_renew", _check(_TAG, tag, "tag"), _natural(uptime_s, "uptime"), end=tag)


def encode_reap(*, pid: int, start: int) -> bytes:
    """End a reader that `encode_read` began, by identity.  -> Reaped"""
    if pid < 2:
        raise ValueError(f"not a reader's pid: {pid}")
    return _call("call_reap", pid, _natural(start, "start"), end=str(pid))


def encode_purge(*, tag: str) -> bytes:
    """Remove this store's spool if nothing of it lives; the runner then ends.  -> Purged"""
    return _call("call_purge", _check(_TAG, tag, "tag"), end=tag)


def encode_read(*, nonce: str, path: str, offset: int = 0, follow: bool = False) -> bytes:
    """Return the stdin of a second `exec /bin/sh`: a head line (`parse_read_head`), then the file's bytes from `offset`."""
    _check(_TAG, nonce, "nonce")
    if not path.startswith("/"):
        raise ValueError(f"path is not absolute: {path!r}")
    follows = b"-f " if follow else b""
    begin = b"tail -c +%d %s" % (_natural(offset, "offset") + 1, follows)
    head = b"printf 'SSHQ-READ %s " % nonce.encode()
    return (
        b'read_file() { [ "$2" = END ] || return 0; LC_ALL=C; export LC_ALL\n'
        b'if [ ! -e "$1" ]; then ' + head + b"error missing\\n'; elif [ ! -f \"$1\" ] || [ ! -r \"$1\" ]; then "
        + head + b"error unreadable\\n'\n"
        b"else read -r STAT </proc/$$/stat; SIZE=$(wc -c <\"$1\"); set -- \"$1\" ${STAT##*') '}\n"
        + head + b"%s %s %s\\n' $$ \"${21}\" $SIZE; exec " + begin + b'"$1"; fi; exit 0\n}\nread_file ' + quote(path) + b" END\n"
    )  # fmt: skip


def out_path(spool: str, id: str) -> str:  # noqa: A002
    """Return where the output of a launch with `stdout` None lies."""
    return f"{spool}/a/{id}.out"


def work_path(spool: str, id: str, below: str = "") -> str:  # noqa: A002
    """Return the working directory of a launch with `work_dir` None."""
    return f"{spool}/a/{id}.d{below and '/'}{below}"
