"""What a test asks of container jobs on one host: submit them, read how they ended, see that nothing is left."""

import os

from .boxes import BoxHost
from .instance import Instance

BOX_IMAGE = "box:1"
BOX_PATIENCE_S = 40


class BoxLab:
    """One host with an engine and one sshq, for all tests of the module; each job of a test has its own directory there."""

    def __init__(self, box: BoxHost, instance: Instance) -> None:
        self.box, self.host, self.sshq = box, box.host, instance

    def submit(self, script: str, *options: str) -> int:
        return self.sshq.submit(f"--container={BOX_IMAGE}", *options, "--wrap", script)

    def submit_with(self, env: dict[str, str], *words: str, image: str | None = BOX_IMAGE, **kwargs: object) -> int:
        """Submit with these variables in the environment."""
        said = self.sshq.out("sbatch", "--parsable", *([f"--container={image}"] if image else []), *words, env=env, **kwargs)
        return int(said)

    def until(self, job: int | str, *states: str) -> str:
        return self.sshq.until_state(job, *states, timeout_s=BOX_PATIENCE_S)

    def output(self, job: int | str) -> str:
        return self.sshq.run("logs", str(job)).stdout

    def until_said(self, job: int | str, word: str) -> None:
        self.sshq.wait_for(lambda: word in self.output(job), BOX_PATIENCE_S, lambda: f"{word}: {self.sshq.out('why', str(job))}")

    def finished(self, job: int | str, *states: str) -> str:
        """Wait until it is over and its output is home; returns that."""
        self.until(job, *states)
        self.sshq.wait_for(lambda: os.path.exists(f"{self.sshq.work}/slurm-{job}.out"), BOX_PATIENCE_S, f"output of {job}")
        return self.sshq.read(f"slurm-{job}.out")

    def account(self, job: int | str) -> tuple[str, str]:
        state, _, code = self.sshq.out("sacct", "-n", "-P", "-X", "-o", "state,exitcode", "-j", str(job)).strip().partition("|")
        return state.split()[0], code

    def nothing_left(self) -> bool:
        return not self.box.containers().strip() and not self.box.boxes() and not self.living()

    def living(self) -> list[int]:
        """Processes with a launch's cookie, in containers or not."""
        words = self.host.sh("grep -l SSHQ_ATTEMPT= /proc/[0-9]*/environ 2>/dev/null", check=False).stdout.split()
        return [int(word.split("/")[2]) for word in words]

    def assert_gone(self) -> None:
        self.sshq.wait_for(
            self.nothing_left, BOX_PATIENCE_S,
            lambda: f"nothing is left: {self.box.containers()} {self.box.boxes()} {self.living()}",
        )  # fmt: skip

    def assert_ends(self) -> None:
        """A script that a signal ends shows it, one that says the code of such an end has said a code."""
        ends = {
            "kill -9 $$": "0:9",
            "exit 137": "137:0",
            "kill -SEGV $$": "0:11",
            "exit 143": "143:0",
            "kill -TERM $$; sleep 9": "0:15",
        }
        jobs = {self.submit(script): end for script, end in ends.items()}
        for job, end in jobs.items():
            assert self.finished(job, "FAILED") == ""
            assert self.account(job) == ("FAILED", end)
