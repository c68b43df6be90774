"""What a set of processes and all their children cost: a control group's own counter, where this account may make one."""

import os
import resource
from pathlib import Path

V1 = Path("/sys/fs/cgroup/cpuacct")
V2 = Path("/sys/fs/cgroup")


class CpuGroup:
    """Counts the CPU of what is put into it, orphans included; `seconds()` is None where no control group can be made."""

    def __init__(self, name: str) -> None:
        self.path: Path | None = None
        for root, counter in ((V1, "cpuacct.usage"), (V2, "cpu.stat")):
            path = root / f"sshq-bench-{os.getpid()}-{name}"
            try:
                path.mkdir()
            except OSError:
                continue
            if (path / counter).exists():
                self.path, self._counter = path, path / counter
                return
            path.rmdir()

    def put(self, pid: int = 0) -> None:
        """Move a process (0: the one that asks) into the group; what it starts from now on is counted."""
        if self.path is not None:
            (self.path / "cgroup.procs").write_text(str(pid or os.getpid()))

    def seconds(self) -> float | None:
        if self.path is None:
            return None
        text = self._counter.read_text()
        if self._counter.name == "cpu.stat":
            return int(text.split()[1]) / 1e6
        return int(text) / 1e9

    def close(self) -> None:
        """Remove the group; who is still in it goes back to the root."""
        if self.path is None:
            return
        for pid in (self.path / "cgroup.procs").read_text().split():
            try:
                (self.path.parent / "cgroup.procs").write_text(pid)
            except OSError:
                continue
        try:
            self.path.rmdir()
        except OSError:
            pass


def waited_s() -> float:
    """Return the CPU seconds of this process and of all the children it has waited for."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


def process_s(pid: int) -> float:
    """Return the CPU seconds of one process, its ended children not counted."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
