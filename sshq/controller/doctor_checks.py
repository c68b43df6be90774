"""What the doctor's findings mean: each `judge_*` turns what was seen on one host into checks, in plain words.

A check is ok, warn (jobs run, but something is worth knowing) or fail (this host cannot be used), with what was seen and
one line that can be pasted.  Nothing here asks anybody anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from sshq.errors import AgentError, HostKeyError, LoginError, NodeError
from sshq.inventory.facts import Facts
from sshq.inventory.model import Host
from sshq.runner.protocol import Hello, Unusable
from sshq.transport.base import ChannelRefusedError
from sshq.transport.sshconfig import IgnoredOption

Verdict = Literal["ok", "warn", "fail"]

SKEW_S: Final = 30.0
SPOOL_FREE_MIB: Final = 64
INODES_FREE: Final = 1000
SAID_CHARS: Final = 300
IN_MEMORY: Final = ("tmpfs", "ramfs")
# What the runner's head says a node needs; one of the last three is enough.
TOOLS_NEEDED: Final = (
    "cat", "chmod", "date", "env", "grep", "id", "ln", "ls", "mkdir", "mkfifo", "mv", "nice", "rm", "rmdir", "sleep", "tail",
    "uname", "wc",
)  # fmt: skip
SESSION_TOOLS: Final = ("setsid", "perl", "python3")
# Options whose silence could surprise: they decide who is trusted or how a host is reached.  The rest is etiquette.
OPTIONS_THAT_MATTER: Final = frozenset({
    "stricthostkeychecking", "knownhostscommand", "revokedhostkeys", "verifyhostkeydns", "canonicalizehostname",
    "nohostauthenticationforlocalhost", "remotecommand", "proxyusefdpass", "passwordauthentication", "pkcs11provider",
    "securitykeyprovider", "userknownhostsfile", "globalknownhostsfile",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the report; further lines of `detail` stand below the first."""

    check: str
    verdict: Verdict
    detail: str
    hint: str | None = None

    def as_json(self) -> dict[str, object]:
        """Return it as the wire method `doctor` has it."""
        return {"check": self.check, "verdict": self.verdict, "detail": self.detail, "hint": self.hint}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A directory a spool could be in, or its nearest parent that is there."""

    path: str
    writable: bool
    free_kib: int | None
    free_inodes: int | None


@dataclass(slots=True, kw_only=True)
class Look:
    """What a plain shell on a second channel told; `shell` False: nothing there understood us."""

    shell: bool = False
    missing: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    launches: int = 0
    unstaged: list[str] = field(default_factory=list)  # what is missing only for files that go along


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """A channel on which no runner answered: what came instead, and how it ended."""

    said: bytes
    stderr: bytes
    ended: bool
    exit_code: int | None
    waited_s: float


def ssh_command(host: Host) -> str:
    """Return the words before a command to be run on the host by hand."""
    if host.connection == "local":
        return "sh -c"
    port = f"-p {host.port} " if host.port and host.port != 22 else ""
    jump = f"-J {host.proxy_jump} " if host.proxy_jump and host.proxy_jump != "none" else ""
    account = f"{host.account}@" if host.account else ""
    return f"ssh {jump}{port}{account}{host.address}"


def clean_text(data: bytes) -> str:
    """Return what a host said as one line that cannot disturb a terminal."""
    text = " ".join(data.decode("utf-8", "replace").split())
    shown = "".join(char if char.isprintable() else "?" for char in text)
    return shown if len(shown) <= SAID_CHARS else shown[:SAID_CHARS] + " …"


def format_size(mib: int) -> str:
    """Return MiB rounded for people: 512 MiB, 15.6 GiB."""
    return f"{mib} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"


# ---- before and at the login ---------------------------------------------------------------------------------------


def judge_options(ignored: Sequence[IgnoredOption]) -> list[Check]:
    """Options of ssh's configuration that have no effect here."""
    matters = [item for item in ignored if item.option.lower() in OPTIONS_THAT_MATTER]
    checks = []
    if matters:
        lines = [f"{item.option} {item.value} ({item.place}) has no effect: {item.why}" for item in matters]
        checks.append(Check(check="ssh options", verdict="warn", detail="\n".join(lines)))
    others = dict.fromkeys(item.option for item in ignored if item not in matters)
    if others:
        checks.append(Check(check="ssh options", verdict="ok", detail=f"of no use here: {', '.join(others)}"))
    return checks


def judge_connect_failure(error: NodeError) -> Check:
    """Why there is no connection: the transport's own words, below the part of the way that failed."""
    if isinstance(error, HostKeyError):
        name = "host key"
    elif isinstance(error, LoginError | AgentError):
        name = "auth"
    else:
        name = "connection"
    head = error.message.removeprefix(f"{error.host}: ")
    return Check(check=name, verdict="fail", detail="\n".join((head, *error.detail)), hint=error.hint)


def judge_connection(greeting: str, took_s: float, rtt_s: float | None, host: Host) -> list[Check]:
    """The way there works."""
    version, _, banner = greeting.partition("\n")
    trip = f", round trip {rtt_s * 1000:.1f} ms" if rtt_s else ""
    said = f"{clean_text(version.encode())}, connected in {took_s:.2f} s{trip}"
    checks = [Check(check="connection", verdict="ok", detail=said)]
    if host.connection == "ssh":
        checks.append(Check(check="host key", verdict="ok", detail="the one recorded"))
        banner_said = f"; its banner: {clean_text(banner.encode())}" if banner.strip() else ""
        checks.append(Check(check="auth", verdict="ok", detail=f"let in{banner_said}"))
    return checks


# ---- where no runner answered --------------------------------------------------------------------------------------


def judge_refused_channel(error: ChannelRefusedError, host: Host) -> Check:
    """The login works and no command may be run."""
    return Check(
        check="shell",
        verdict="fail",
        detail="\n".join((error.message.removeprefix(f"{host.name}: "), "the login works, but sshd runs no command for it")),
        hint=f"{ssh_command(host)} true    # must succeed; look at MaxSessions and ForceCommand in its sshd_config",
    )


def judge_silence(silence: Silence, look: Look, host: Host) -> Check:
    """Something ran, but it was not our runner: say what came instead."""
    said, error = clean_text(silence.said), clean_text(silence.stderr)
    lines = [f"it said: {said}"] if said else []
    lines += [f"on stderr: {error}"] if error else []
    if look.shell:
        head = "a shell answers there, but the runner's program did not start in it"
        hint = f"{ssh_command(host)} 'ls -l /bin/sh'    # a POSIX shell: dash, bash, busybox, ksh or zsh"
    elif not silence.ended:
        head = f"the login shell did not start /bin/sh within {silence.waited_s:.0f} s: it hangs, or waits for input"
        lines.append("start-up files of the login shell may ask something, or sit on a file server that does not answer")
        hint = f"{ssh_command(host)} 'exec /bin/sh -c \"echo fine\"'    # must print fine at once"
    else:
        status = "no exit status" if silence.exit_code is None else f"exit status {silence.exit_code}"
        head = f"something else than /bin/sh ran, and ended with {status}"
        lines.append("a ForceCommand in its sshd_config, a command= in authorized_keys, or an account without a shell (nologin)")
        hint = f"{ssh_command(host)} 'exec /bin/sh -c \"echo fine\"'    # must print fine; use an account that may run commands"
    return Check(check="shell", verdict="fail", detail="\n".join((head, *lines)), hint=hint)


def judge_unusable(unusable: Unusable, look: Look, host: Host) -> list[Check]:
    """The runner's own refusal, with what the plain shell saw."""
    text = clean_text(unusable.text.encode("utf-8", "surrogateescape"))
    checks = [judge_tools(look.missing, host)] if look.missing else []
    if unusable.why == "no-proc":
        checks.append(Check(check="system", verdict="fail", detail=text, hint="sshq runs jobs on Linux, with /proc mounted"))
    elif not unusable.why.startswith("spool"):
        if not checks:
            checks.append(Check(check="tools", verdict="fail", detail=text, hint=_tools_hint(host)))
    else:
        lines = [text, *_describe_places(look.places)]
        hint = _SPOOL_HINTS.get(unusable.why, _SPOOL_HINTS["spool-owner"]).format(
            path=text.split(" is ", 1)[0] if " is " in text else "DIRECTORY", ssh=ssh_command(host), name=host.name
        )
        checks.append(Check(check="spool", verdict="fail", detail="\n".join(lines), hint=hint))
    return checks


_SPOOL_HINTS: Final[Mapping[str, str]] = {
    "spool-remote": "sshq_spool: /a/local/directory    # for {name} in the inventory (or sshq_spool_forced: true)",
    "spool-owner": "sshq_spool: /another/directory    # for {name} in the inventory",
    "spool-mode": "{ssh} chmod 700 {path}",
    "spool-symlink": "sshq_spool: /the/real/directory    # for {name} in the inventory",
    "spool-version": "use the newer sshq that made it, or take another directory with sshq_spool",
    "spool-space": "{ssh} 'df -h; df -i'    # make room, or name another directory with sshq_spool",
}


def _describe_places(places: Sequence[Place]) -> list[str]:
    lines = []
    for place in places:
        if place.free_kib == 0:
            lines.append(f"{place.path}: the file system is full")
        elif place.free_inodes == 0:
            lines.append(f"{place.path}: the file system has no inodes left")
        elif not place.writable:
            lines.append(f"{place.path}: cannot be written to (read-only, or not this account's)")
        elif place.free_kib is not None and place.free_kib < SPOOL_FREE_MIB * 1024:
            lines.append(f"{place.path}: {place.free_kib} KiB free")
    return lines


# ---- where the runner answered -------------------------------------------------------------------------------------


def judge_noise(said: bytes, stderr: bytes, host: Host, hello: Hello | None = None) -> Check:
    """What the login shell's start-up files print before anything was asked."""
    out, error = clean_text(said), clean_text(stderr)
    if not out and not error:
        who = "" if hello is None else f"{clean_text(hello.user.encode('utf-8', 'replace'))}'s "
        return Check(check="shell", verdict="ok", detail=f"{who}login shell starts /bin/sh without a word")
    lines = ["noisy login shell: its start-up files print something although nobody is there (sshq reads past it)"]
    lines += [f"it said: {out}"] if out else []
    lines += [f"on stderr: {error}"] if error else []
    hint = f"case $- in *i*) ;; *) return ;; esac    # as the first line of ~/.bashrc on {host.name}"
    return Check(check="shell", verdict="warn", detail="\n".join(lines), hint=hint)


def judge_tools(missing: Sequence[str], host: Host) -> Check:
    """The commands that the runner needs; `nice` only where jobs are to be nice."""
    needed = [tool for tool in missing if tool != "nice" or host.nice]
    if not needed:
        return Check(check="tools", verdict="ok", detail="all there")
    if needed == ["nice"]:
        hint = f"sshq_nice: 0    # for {host.name} in the inventory, or install coreutils there"
        detail = f"missing: nice, but sshq_nice is {host.nice}: jobs are as nice as renice makes them, if it is there"
        return Check(check="tools", verdict="warn", detail=detail, hint=hint)
    return Check(check="tools", verdict="fail", detail=f"missing: {', '.join(needed)}", hint=_tools_hint(host))


def judge_staging(missing: Sequence[str]) -> list[Check]:
    """The commands that only jobs need that bring files along."""
    if not missing:
        return []
    text = f"missing: {'; '.join(missing)}: jobs with --sync or --stage-in go elsewhere"
    return [Check(check="files", verdict="warn", detail=text, hint="install coreutils and tar there")]


def _tools_hint(host: Host) -> str:
    return f"install coreutils and util-linux (setsid; or perl, or python3) on {host.name}"


def judge_spool(hello: Hello, facts: Facts | None, look: Look) -> list[Check]:
    """The spool works, since the runner started in one; how much room it has, and whether it lasts."""
    parent = hello.spool.rpartition("/")[0]
    free = facts.spool_free_mib if facts else None
    room = "" if free is None else f", {format_size(free)} free"
    kept = f"; {look.launches} launches of this controller are there" if look.launches else ""
    moved = "" if hello.spool.startswith(hello.home.rstrip("/") + "/") or not parent.startswith("/var/tmp/") else (
        "; not in the home, which is shared or cannot be written to"
    )  # fmt: skip
    checks = [Check(check="spool", verdict="ok", detail=f"{parent} on {hello.fs}{room}{moved}{kept}")]
    if hello.fs in IN_MEMORY:
        checks.append(Check(
            check="spool", verdict="warn",
            detail=f"{parent} is in memory ({hello.fs}): a reboot takes the records of ended jobs along",
            hint="sshq_spool: /a/directory/on/disk    # in the inventory",
        ))  # fmt: skip
    inodes = min((p.free_inodes for p in look.places if p.free_inodes is not None), default=None)
    if free is not None and free < SPOOL_FREE_MIB:
        checks.append(Check(check="spool", verdict="warn", detail=f"only {free} MiB are free at {parent}"))
    if inodes is not None and 0 < inodes < INODES_FREE:
        checks.append(Check(check="spool", verdict="warn", detail=f"only {inodes} inodes are free at {parent}"))
    return checks


def judge_clock(clock_at: float, asked_at: float, answered_at: float) -> Check:
    """The node read its clock, in whole seconds, some time between question and answer: count only what is beyond doubt."""
    ahead = max(0.0, clock_at - answered_at)
    behind = max(0.0, asked_at - clock_at - 1)
    skew_s = max(ahead, behind)
    if skew_s <= SKEW_S:
        return Check(check="clock", verdict="ok", detail="agrees with this machine's")
    word = "ahead of" if ahead else "behind"
    amount = f"{skew_s:.0f} s" if skew_s < 600 else f"{skew_s / 60:.0f} min"
    return Check(
        check="clock", verdict="warn", detail=f"{amount} {word} this machine's: times in files of jobs will disagree",
        hint="timedatectl set-ntp true    # there, or here",
    )  # fmt: skip


def judge_signals(signals: str) -> Check:
    """Whether a job can be started with INT and QUIT as they should be."""
    if signals != "none":
        return Check(check="signals", verdict="ok", detail=f"jobs start with clean signals (by {signals})")
    return Check(
        check="signals", verdict="warn",
        detail="jobs start with SIGINT and SIGQUIT ignored: no env --default-signal, perl or python3 to reset them",
        hint="install coreutils 8.31 or newer, perl or python3 there; scancel without --signal=INT works all the same",
    )  # fmt: skip


def judge_logout(facts: Facts, hello: Hello, host: Host) -> Check:
    """Would systemd end the jobs with our login?  It spares root (KillExcludeUsers)."""
    if not facts.kill_user_processes or hello.uid == 0:
        return Check(check="logout", verdict="ok", detail="jobs outlive the connection")
    setting = "KillUserProcesses=yes in its logind.conf"
    if host.connection == "local":
        return Check(
            check="logout", verdict="warn", detail=f"{setting}: a controller started from a login ends at the logout, jobs too",
            hint="run the controller as a service (contrib/systemd)",
        )  # fmt: skip
    return Check(
        check="logout", verdict="fail", detail=f"{setting}: systemd would kill the jobs whenever the connection ends",
        hint=f"KillExcludeUsers=root {hello.user}    # in /etc/systemd/logind.conf there; then systemctl restart systemd-logind",
    )  # fmt: skip


def judge_channels(refused: ChannelRefusedError | None) -> Check:
    """Whether a second channel is allowed on the runner's connection."""
    if refused is None:
        return Check(check="channels", verdict="ok", detail="a second one is allowed on the connection")
    return Check(
        check="channels", verdict="warn",
        detail="MaxSessions 1: no second channel on a connection, so output is read over a second login",
        hint="MaxSessions 10    # in its sshd_config, the default",
    )  # fmt: skip


def judge_machine(facts: Facts, host: Host) -> list[Check]:
    """What it is, and whether the inventory promises more than there is."""
    memory = "" if facts.memory_mib is None else f"{format_size(facts.memory_mib)} of memory"
    if memory and facts.memory_free_mib is not None:
        memory += f" ({format_size(facts.memory_free_mib)} available)"
    load = "" if facts.load1 is None else f"load {facts.load1:.2f}"
    shells = f"login shell {facts.login_shell}, /bin/sh is {facts.sh}" if facts.login_shell and facts.sh else ""
    parts = (facts.os, facts.kernel, facts.arch, f"{facts.cpus or 'unknown'} cpus", memory, load, shells)
    checks = [Check(check="machine", verdict="ok", detail=", ".join(part for part in parts if part))]
    if host.cpus is not None and facts.cpus is not None and host.cpus > facts.cpus:
        place = f" ({host.origins['cpus']})" if "cpus" in host.origins else ""
        checks.append(Check(check="machine", verdict="warn", detail=f"sshq_cpus is {host.cpus}{place}, there are {facts.cpus}"))
    if host.memory_mib is not None and facts.memory_mib is not None and host.memory_mib > facts.memory_mib:
        place = f" ({host.origins['memory_mib']})" if "memory_mib" in host.origins else ""
        said = f"sshq_memory is {format_size(host.memory_mib)}{place}, there is {format_size(facts.memory_mib)}"
        checks.append(Check(check="machine", verdict="warn", detail=said))
    return checks
