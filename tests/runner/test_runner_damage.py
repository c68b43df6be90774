"""Every file of the spool x {gone, empty, cut, garbage} x the state of its launch: 192 cases.

Whatever is lost, a launch starts once at most, what ran is never called unstarted (it would run again), and no end is
made up: a record is the supervisor's own or there is none.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell_node import SHELLS, Node, Runner, is_alive, need_shell, wait_until

from sshq.runner import protocol as p

FILES = ("exit", "go", "req", "env", "script", "sup", "run", "cancel", "seen", "out")  # of a launch
DAMAGES = ("gone", "empty", "cut", "garbage")
STATES = ("claimed", "running", "orphaned", "ended")
GLOBAL = ("version", "spool_id", "floor", "floor.spare", "gen.*", "bell", "r.*", "c.*")
GARBAGE = b"\xff\x00(((';`\n" * 60
PARTLY = ("gone", "garbage")  # what shells other than dash are shown


def test_it_is_192_cases():
    assert len(FILES) * len(DAMAGES) * len(STATES) + len(GLOBAL) * len(DAMAGES) == 192


def damage(path: Path, how: str) -> None:
    if how == "gone":
        path.unlink(missing_ok=True)
        return
    content = path.read_bytes() if path.is_file() else b""
    if not path.is_file():
        path.unlink(missing_ok=True)
    path.write_bytes({"empty": b"", "cut": content[: len(content) // 3], "garbage": GARBAGE}[how])


class Herd:
    """One launch for each damage of each file, brought to a state; `let_go` ends their jobs, each with status 3."""

    def __init__(self, node: Node, root: Path, damages: tuple[str, ...]) -> None:
        self.node, self.ledger, self.gate = node, root / "ledger", root / "gate"
        self.ledger.touch()
        os.mkfifo(self.gate)
        self.open_gate = os.open(self.gate, os.O_RDWR)
        self.runner = node.connect()
        assert self.runner.reserve().ok
        script = b"echo $SSHQ_ATTEMPT >>%s\nread -r GO <%s\nexit 3\n" % (bytes(self.ledger), bytes(self.gate))
        self.calls = {(file, how): self.runner.call(script) for file in FILES for how in damages}

    def launch(self) -> None:
        for call in self.calls.values():
            self.runner.send(*p.encode_launch(call))

    def file(self, call: p.LaunchCall, name: str) -> Path:
        return self.node.spool / "a" / f"{call.id}.{name}"

    def starts(self) -> list[str]:
        return self.ledger.read_text().split()

    def wait_running(self) -> None:
        wait_until(lambda: len(self.starts()) == len(self.calls), what="all jobs run")

    def supervisors(self) -> list[int]:
        return [int(self.file(call, "sup").read_text().split()[1]) for call in self.calls.values()]

    def let_go(self) -> None:
        os.write(self.open_gate, b"\n" * len(self.calls))

    def damage_all(self) -> None:
        for (file, how), call in self.calls.items():
            damage(self.file(call, file), how)

    def by_case(self) -> dict[tuple[str, str], p.Entry | None]:
        entries = self.runner.list()
        return {case: entries.get(call.id) for case, call in self.calls.items()}

    def fence(self, call: p.LaunchCall) -> p.FenceResult:
        self.runner.send(p.encode_fence(id=call.id, seq=call.seq))
        return self.runner.wait(p.FenceResult, lambda r: r.id == call.id)

    def reconnect(self) -> None:
        self.runner = self.node.connect()
        seqs = tuple(call.seq for call in self.calls.values())
        assert self.runner.reserve(open_seqs=seqs).ok

    def close(self) -> None:
        os.close(self.open_gate)


@pytest.fixture(params=SHELLS)
def herd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Herd]:
    need_shell(request.param)
    with Node(tmp_path, request.param) as node:
        herd = Herd(node, tmp_path, DAMAGES if request.param == "dash" else PARTLY)
        yield herd
        assert not [r for r in herd.runner.replies if isinstance(r, p.Malformed)]
        herd.close()


def spawner_of(runner: Runner) -> int:
    children = Path(f"/proc/{runner.process.pid}/task/{runner.process.pid}/children").read_text().split()
    [spawner] = [int(c) for c in children if os.getsid(int(c)) == int(c)]
    return spawner


def test_damage_before_the_start(herd):
    """Claimed: the spawner is stopped, so that nothing has been started when the files are damaged."""
    herd.runner.wait_end(herd.runner.launch(b"exit 1").id)  # now there is a spawner
    spawner = spawner_of(herd.runner)
    os.kill(spawner, signal.SIGSTOP)
    herd.launch()
    herd.runner.ping()
    herd.damage_all()
    before = herd.by_case()
    assert all(entry is None or entry.record is None for entry in before.values())
    os.kill(spawner, signal.SIGCONT)
    herd.let_go()

    def unsettled() -> list[tuple[str, str]]:
        return [case for case, e in herd.by_case().items() if e and (e.supervisor or e.alive)]

    probe = herd.runner.launch(b"exit 5")  # the spawner takes launches in order: when this has ended, all had their turn
    assert herd.runner.wait_end(probe.id).code == 5
    wait_until(lambda: not unsettled(), what="nothing of them lives")
    starts = herd.starts()
    assert len(set(starts)) == len(starts)
    for case, entry in herd.by_case().items():
        started, record = herd.calls[case].id in starts, entry.record if entry else None
        if case[0] == "script" and case[1] in ("cut", "garbage"):
            continue  # the known miss: what an interpreter makes of half a script cannot be told from what it was to do
        assert record is None or record.code != 0, case
        if started:
            assert record is not None and record.how != "never", case
            assert herd.fence(herd.calls[case]).result == "lost", case
        else:
            assert record is None or record.how == "never" or record.code, case
    whole = {("run", "gone"), ("sup", "gone"), ("out", "gone"), ("seen", "gone")}
    assert all(herd.by_case()[case].record.code == 3 for case in whole), "what is not there yet is not missed"


def test_damage_to_running_jobs_changes_no_end(herd):
    herd.launch()
    herd.wait_running()
    herd.damage_all()
    for _ in range(2):
        for case, entry in herd.by_case().items():
            assert entry is not None and entry.go == "file" and (entry.supervisor or entry.alive), case
            assert entry.record is None, case
        for case in herd.calls:
            if case[0] in ("go", "exit", "run"):
                assert herd.fence(herd.calls[case]).result == "lost", case
        herd.reconnect()
    herd.let_go()
    wait_until(lambda: all(e and e.record for e in herd.by_case().values()), what="records of all")
    for case, entry in herd.by_case().items():
        assert (entry.record.how, entry.record.code) == ("exit", 3), case
    assert len(herd.starts()) == len(herd.calls)


def test_damage_to_jobs_without_a_supervisor_makes_up_no_end(herd):
    herd.launch()
    herd.wait_running()
    supervisors = herd.supervisors()
    for pid in supervisors:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, supervisors)))
    herd.damage_all()
    for _ in range(2):
        for case, entry in herd.by_case().items():
            assert entry is not None and entry.go == "file" and entry.record is None, case
            assert entry.alive or case[0] == "run", case
            assert herd.fence(herd.calls[case]).result == "lost", case
        herd.reconnect()
    asked = [call for case, call in herd.calls.items() if case[0] in ("req", "env", "cancel") and case[1] != "empty"]
    herd.runner.send(*(p.encode_kill(id=call.id, seq=call.seq, mode="cancel", grace_s=1) for call in asked))
    for call in asked:
        assert herd.runner.wait(p.KillResult, lambda r, i=call.id: r.id == i and r.result == "killed").survivors == ()
        assert herd.runner.list()[call.id].record.how == "cancel"
    herd.let_go()
    wait_until(lambda: not any(e.alive for e in herd.by_case().values()), what="all ended")
    assert all(e.record is None or e.record.how == "cancel" for e in herd.by_case().values())


def test_damage_after_the_end_loses_the_record_or_nothing(herd):
    herd.launch()
    herd.wait_running()
    herd.let_go()
    for call in herd.calls.values():
        assert herd.runner.wait_end(call.id).code == 3
    wait_until(lambda: not any(map(is_alive, herd.supervisors())))
    herd.damage_all()
    for _ in range(2):
        for case, entry in herd.by_case().items():
            assert entry is not None and entry.go == "file" and not entry.alive, case
            assert (entry.record is None) if case[0] == "exit" else entry.record.code == 3, case
            assert herd.fence(herd.calls[case]).result == "lost", case
        herd.reconnect()
    ids = [call.id for call in herd.calls.values()]
    herd.runner.send(p.encode_ack(tag="ack", high=9_000_000, open_seqs=(), ids=ids))
    assert herd.runner.wait(p.Acked).ok
    # private directories may be large: they are removed in the background
    wait_until(lambda: not list((herd.node.spool / "a").iterdir()), what="all files gone")


@pytest.mark.parametrize(("shell", "name"), [("dash", name) for name in GLOBAL] + [(s, "spool_id") for s in SHELLS if s != "dash"])
def test_damage_to_what_all_launches_share(tmp_path, shell, name):
    with Node(tmp_path, need_shell(shell)) as node:
        runner = node.connect()
        runner.reserve()
        (tmp_path / "gate").mkdir()
        running = runner.launch(b"while [ ! -e %s/go ]; do sleep 0.05; done; exit 3\n" % bytes(tmp_path / "gate"))
        runner.wait_start(running.id)
        ended = runner.launch(b"exit 4\n")
        runner.wait_end(ended.id)
        for how in DAMAGES if shell == "dash" else PARTLY:
            found = list(node.spool.glob(name)) or [node.spool / name.replace("*", "1")]
            for path in found:
                damage(path, how)
            if (name, how) == ("version", "garbage"):
                refused = node.start().wait(p.Unusable)
                assert refused.why == "spool-version" and str(node.spool) in refused.text
                (node.spool / name).unlink()
            runner = node.connect()
            assert runner.reserve(open_seqs=(running.seq, ended.seq)).ok, how
            entries = runner.list()
            assert entries[running.id].alive and entries[running.id].supervisor, how
            assert entries[ended.id].record.code == 4, how
            assert runner.wait_end(runner.launch(b"exit 6\n").id).code == 6, how
        (tmp_path / "gate" / "go").touch()
        assert runner.wait_end(running.id).code == 3
