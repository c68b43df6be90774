"""One isolated sshq: its own HOME, SSHQ_HOME and directory to submit from, its real CLI as processes.

Nothing is imported from sshq here: what a test learns it learns as a user does.
"""

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from .host import Groups, Host, inventory_text, known_hosts_text
from .session import MARK, REPO, is_zombie, kill_marked_by, session, wait_until

T = TypeVar("T")

READY_STATES = {"idle", "planned", "mixed", "allocated", "completing", "draining", "drained"}


class Instance:
    """Use `use` (hosts) and `up`; `close` ends its controller, its local jobs and its directory."""

    def __init__(self) -> None:
        self.session = session()
        self.dir = self.session.fresh_dir("i")
        self.mark = f"{self.session.slot}.{self.session.count}"
        self.home, self.sshq_home, self.work = f"{self.dir}/home", f"{self.dir}/q", f"{self.dir}/w"
        for path in (self.home, self.work):
            os.mkdir(path, 0o755)
        os.mkdir(self.sshq_home, 0o700)
        self.nodes: list[str] = []
        user = pwd.getpwuid(os.geteuid()).pw_name
        self.env = {
            "PATH": f"{os.path.dirname(sys.executable)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": self.home,
            "USER": user,
            "LOGNAME": user,
            "SHELL": "/bin/sh",
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "PYTHONPATH": REPO,
            "SSHQ_HOME": self.sshq_home,
            MARK: str(self.session.slot),
            "BED_INSTANCE": self.mark,
        }

    def __enter__(self) -> "Instance":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- set-up --------------------------------------------------------------------------------------------------
    def use(
        self, hosts: Sequence[Host], *, groups: Groups | None = None,
        host_vars: Mapping[str, Mapping[str, object]] | None = None, **variables: object,
    ) -> str:  # fmt: skip
        """Write the inventory and known_hosts for these hosts; also while running.  Returns the inventory's text."""
        text = inventory_text(hosts, groups=groups, host_vars=host_vars, **variables)
        self.nodes = [host.name for host in hosts]
        ssh = f"{self.home}/.ssh"
        os.makedirs(ssh, mode=0o700, exist_ok=True)
        Path(ssh, "known_hosts").write_text(known_hosts_text(hosts))
        helpers = [helper for host in hosts for helper in host.helpers]
        stanzas = [f"Host {h.addr}\n  User {h.user}\n  IdentityFile {h.key}\n  IdentitiesOnly yes\n" for h in helpers]
        Path(ssh, "config").write_text("".join(stanzas))
        for host in hosts:
            self.env.update(host.env)
        self.write_inventory(text)
        return text

    @property
    def inventory(self) -> str:
        return f"{self.sshq_home}/inventory.yaml"

    def write_inventory(self, text: str) -> None:
        """Replace it in one step, as editors do."""
        Path(self.inventory + ".new").write_text(text)
        os.rename(self.inventory + ".new", self.inventory)

    def write_config(self, text: str) -> None:
        Path(self.sshq_home, "config.yaml").write_text(text)

    # -- the CLI -------------------------------------------------------------------------------------------------
    def argv(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "sshq.cli.main", *args]

    def run(
        self, *args: str, input: str | None = None, cwd: str | None = None, env: Mapping[str, str] | None = None,  # noqa: A002
        timeout_s: float = 60, user: int | None = None, check: bool = False,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run `sshq ARGS` as a user would, from `work`; stdin is /dev/null unless `input` is given; `user` is a uid."""
        done = subprocess.run(
            self.argv(*args), cwd=cwd or self.work, env={**self.env, **(env or {})}, capture_output=True, text=True,
            errors="surrogateescape", timeout=timeout_s, check=False,
            **({"input": input} if input is not None else {"stdin": subprocess.DEVNULL}),
            **({"user": user, "group": user, "extra_groups": []} if user is not None else {}),
        )  # fmt: skip
        if check and done.returncode:
            msg = f"sshq {' '.join(args)}: status {done.returncode}\n{done.stdout}{done.stderr}\n{self.logs()}"
            raise AssertionError(msg)
        return done

    def start(self, *args: str, **kwargs: object) -> "subprocess.Popen[str]":
        """Start `sshq ARGS` and let it run: `up --foreground`, `logs -f`, `wait`."""
        options: dict[str, object] = {
            "cwd": self.work, "env": self.env, "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE, "text": True, "start_new_session": True,
        }  # fmt: skip
        return subprocess.Popen(self.argv(*args), **(options | kwargs))  # type: ignore[call-overload,no-any-return]

    def out(self, *args: str, **kwargs: object) -> str:
        """The stdout of a command that must succeed."""
        return self.run(*args, check=True, **kwargs).stdout  # type: ignore[arg-type]

    def up(self, inventory: str | None = None, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`sshq up`; with the inventory's text if given, else as `use` left it (nothing: the embedded localhost)."""
        if inventory is not None:
            self.write_inventory(inventory)
        return self.run("up", *args, check=check)

    def start_controller(self, crash: str = "") -> "subprocess.Popen[bytes]":
        """The controller as `sshq up` starts it, as a child of ours and with a crash point: `up` hands no SSHQ_* on."""
        state = f"{self.sshq_home}/state"
        os.makedirs(state, mode=0o700, exist_ok=True)
        argv = [sys.executable, "-P", "-s", "-m", "sshq.controller.start", "--state", state, "--socket", f"{self.sshq_home}/sock"]
        argv += ["--home", self.sshq_home]
        for option, path in (("--inventory", self.inventory), ("--config", f"{self.sshq_home}/config.yaml")):
            argv += [option, path] if os.path.exists(path) else []
        environ = {k: v for k, v in self.env.items() if not k.startswith("SSHQ_")} | ({"SSHQ_CRASH": crash} if crash else {})
        with open(f"{state}/startup.log", "ab") as log:
            return subprocess.Popen(
                argv, env=environ, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def crashed_at(self) -> str:
        """The point where a controller of `start_controller` died last; asking forgets it."""
        path = Path(self.sshq_home, "state", "crashed")
        said = path.read_text().strip() if path.exists() else ""
        path.unlink(missing_ok=True)
        return said

    def down(self, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("down", check=check)

    def status(self) -> dict[str, object]:
        """`sshq status --json`, or nothing when no controller answers."""
        done = self.run("status", "--json")
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def pid(self) -> int:
        """The controller's pid."""
        value = self.status().get("pid")
        if not isinstance(value, int):
            msg = f"no controller answers\n{self.logs()}"
            raise AssertionError(msg)
        return value

    def kill9(self) -> int:
        """SIGKILL the controller; return when it is gone."""
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: is_zombie(pid), 10, f"controller {pid} gone")
        return pid

    def restart(self) -> None:
        """Orderly down, then up."""
        self.down()
        self.up()

    # -- jobs ----------------------------------------------------------------------------------------------------
    def submit(self, *args: str, input: str | None = None, cwd: str | None = None) -> int:  # noqa: A002
        """`sbatch --parsable ARGS`: the job's id."""
        return int(self.out("sbatch", "--parsable", *args, input=input, cwd=cwd).split(";")[0])

    def wrap(self, command: str, *args: str) -> int:
        return self.submit(*args, "--wrap", command)

    def state(self, job: int | str) -> str:
        """The word of sacct for a job or array task; "" where it shows nothing."""
        lines = self.run("sacct", "-n", "-P", "-X", "-o", "state,end", "-j", str(job)).stdout.split("\n")
        state, _, end = lines[0].strip().partition("|")
        # CANCELLED is shown from the scancel on, as Slurm does; here it is a state once the processes are gone.
        return "COMPLETING" if state.startswith("CANCELLED") and end == "Unknown" else state

    def until_state(self, job: int | str, *states: str, timeout_s: float = 30) -> str:
        """Wait until the state begins with one of these words ("CANCELLED by 0" begins with CANCELLED)."""

        def reached() -> str:
            state = self.state(job)
            return state if state.startswith(states) else ""

        return self.wait_for(reached, timeout_s, f"job {job} in {' or '.join(states)}")

    def ready(self, *names: str, timeout_s: float = 30) -> None:
        """Until sinfo shows these nodes (default: all in use) as reachable."""
        wanted = set(names or self.nodes or ["localhost"])

        def missing() -> set[str]:
            lines = self.run("sinfo", "-h", "-N", "-o", "%N %T").stdout.splitlines()
            return wanted - {line.split()[0] for line in lines if line.split()[-1:] and line.split()[-1] in READY_STATES}

        self.wait_for(lambda: not missing(), timeout_s, lambda: f"nodes ready; still missing {missing()}")

    def wait_for(self, condition: Callable[[], T], timeout_s: float = 15, what: str | Callable[[], str] = "") -> T:
        """`wait_until` that shows the instance's logs when it fails."""
        return wait_until(condition, timeout_s, lambda: f"{what() if callable(what) else what}\n{self.logs()}")

    def read(self, name: str) -> str:
        """A file of the directory jobs are submitted from, "" while it is not there."""
        path = Path(self.work, name)
        return path.read_text(errors="surrogateescape") if path.exists() else ""

    # -- the end -------------------------------------------------------------------------------------------------
    def logs(self, lines: int = 40) -> str:
        """The tails of all log files below SSHQ_HOME."""
        parts = []
        for path in sorted(Path(self.sshq_home).rglob("*.log*")):
            with contextlib.suppress(OSError):
                tail = path.read_text(errors="replace").splitlines()[-lines:]
                parts.append(f"---- {path}\n" + "\n".join(tail))
        return "\n".join(parts)

    def keep(self, directory: str, name: str) -> None:
        """Copy what a failed test left, without sockets and pipes."""

        def odd_files(folder: str, names: list[str]) -> set[str]:
            return {n for n in names if not (os.path.isfile(f"{folder}/{n}") or os.path.isdir(f"{folder}/{n}"))}

        with contextlib.suppress(OSError, shutil.Error):
            shutil.copytree(self.dir, f"{directory}/{name}", ignore=odd_files, symlinks=True, dirs_exist_ok=True)

    def close(self) -> None:
        """End the controller first by its own verb, then whatever carries this instance's mark."""
        if os.path.exists(f"{self.sshq_home}/sock"):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.run("down", timeout_s=15)
        kill_marked_by(f"BED_INSTANCE={self.mark}", self.dir)
        shutil.rmtree(self.dir, ignore_errors=True)
