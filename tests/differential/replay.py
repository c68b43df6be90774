"""Replays what Slurm was asked against sshq's shims, and says for each question: same, allowed difference, different.

Texts are compared after marks have been put for what no two clusters share: <J1> a job by the name the recording gave
it, <TIME>, <ELAPSED>, <USER>, <HOST>, <DIR>, <PRIO>, …  In a line with a mark, runs of blanks are one.

Two rules hold everywhere: sshq may add place and hint behind Slurm's lines on stderr, and what Slurm showed only some
seconds later (sacct, the reasons of squeue) may come at once, so a question that changes nothing is asked again for a
while before its answer counts as different.
"""

import os
import re
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import yaml

HERE = Path(__file__).parent
FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "PREEMPTED", "BOOT_FAIL"}
NAMES = {"P": "debug", "P2": "short", "PDOWN": "closed", "FEAT": "fast", "GRES": "gpu"} | {f"N{i}": f"node{i}" for i in range(1, 5)}
ASKED_AGAIN_S = 3.0
_READS = re.compile(r"(squeue|sinfo|sacct|scontrol (-\w+ )?(show|ping)|cat|ls)\b[^;&|>]*(\|[^;&>]*)?$")
_BLURS = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", "<TIME>"),
    (r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) (\w{3}) +\d+ [\d:]{8}( \d{4})?", "<TIME>"),
    (r"\b00:0[01]:\d\d\b(?!:)", "<ELAPSED>"),
    (r"(?<![\d:])[01]:[0-5]\d(?![\d:])", "<ELAPSED>"),
)
_MORE_BLURS = (
    (r"(SLURM_TASK_PID|SLURM_SRUN_COMM_PORT|SLURM_STEP_LAUNCHER_PORT|SLURM_LAUNCH_NODE_IPADDR|SLURM_SRUN_COMM_HOST"
     r"|SLURM_WORKING_CLUSTER|SLURM_CONF)=.*", r"\1=<N>"),
    (r"(SLURM_JOBID|SLURM_JOB_ID)=\d+", r"\1=<N>"),
)  # fmt: skip
_LAST_BLURS = (
    (r"(Submitted batch job |StepId=|JOB |slurm-|JobId=|Job )\d+", r"\1<N>"),
    (r"\b429\d{7}\b|\b0\.9999\d+", "<PRIO>"),
    (r"\b(CPULoad=|FreeMem=|cpu_load: |free_memory: |Port=|port: |records=)[\d.]+", r"\1<N>"),
    (r"\b1[78]\d{8}\b", "<EPOCH>"),
    (r"\b\d\d:\d\d\.\d{3}\b", "<CPUTIME>"),
    (r"[ \t]+(?=\n|$)", ""),
    (r"((?:after\w*|\+):)(?:<\w+>|\d+)", r"\1<N>"),
    (r"(?m)^(<A1>_2 <A1> 2) \d+", r"\1 <N>"),
)


def load(name: str) -> object:
    return yaml.safe_load((HERE / f"{name}.yaml").read_text())


class Allowed:
    """`allowed.yaml`: patterns that are put out of both texts, and entries that may differ, or still do; each with its reason."""

    def __init__(self) -> None:
        content = load("allowed")
        self.patterns = [(re.compile(rule["pattern"], re.MULTILINE), rule.get("with", "")) for rule in content["everywhere"]]
        self.reasons: dict[str, tuple[str, set[str]]] = {}
        for rule in [*content["entries"], *content["open"]]:
            for name in rule["ids"].split():
                self.reasons[name] = (rule["reason"], set(rule.get("parts", "stdout stderr").split()))

    def blur(self, text: str) -> str:
        for pattern, replacement in self.patterns:
            text = pattern.sub(replacement, text)
        return text


class Replayer:
    """Runs the commands of one group after the other as a user of the shims; `differences` maps ids to texts."""

    def __init__(self, env: Mapping[str, str], directory: str, user: str) -> None:
        self.env = dict(env)
        self.directory = directory
        self.user = user
        self.jobs: dict[str, str] = {}
        self.allowed = Allowed()

    def shell(self, command: str, timeout_s: float = 60) -> tuple[int, str, str]:
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.directory, env=self.env, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=timeout_s, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")

    def clear(self) -> None:
        """Cancel what is left of the group before, and wait until it is gone."""
        self.shell(f"scancel -u {self.user}")
        self._until(lambda: not self.shell(f"squeue -h -u {self.user} -o %i")[1].strip(), 40, "jobs gone")

    def replay(self, entry: Mapping[str, object]) -> str:
        """Carry out one entry; return what was different and not allowed, "" if nothing was."""
        if "group" in entry:
            self.clear()
        elif "file" in entry:
            Path(self.directory, str(entry["file"])).write_text(str(entry["text"]), newline="")
        elif "wait" in entry:
            self._wait(str(entry["wait"]).split(), set(str(entry.get("states", "")).split()) or FINAL)
        else:
            return self._compare(entry)
        return ""

    def _wait(self, names: list[str], states: set[str]) -> None:
        for name in names:
            self._until(lambda name=name: self._states_of(name) <= states, 40, f"{name} in {states}")

    def _states_of(self, name: str) -> set[str]:
        found = set(self.shell(f"squeue -h -t all -j {self.jobs.get(name, '0')} -o %T")[1].split())
        return found & {"RUNNING"} or found

    def _until(self, condition: object, timeout_s: float, what: str) -> None:
        ends_at = time.monotonic() + timeout_s
        while not condition():  # type: ignore[operator]
            assert time.monotonic() < ends_at, f"{what}: {self.shell('squeue -t all | tail -20')[1]}"
            time.sleep(0.05)

    def _compare(self, entry: Mapping[str, object]) -> str:
        command, name = str(entry["cmd"]), str(entry["id"])
        for mark, value in {**NAMES, **self.jobs}.items():
            command = command.replace("{" + mark + "}", value)
        ends_at = time.monotonic() + ASKED_AGAIN_S
        while True:
            status, out, err = self.shell(command)
            if "as" in entry:
                found = re.search(r"job (\d+)", out) if "Submitted" in out else re.search(r"(\d+)", out + err)
                self.jobs[str(entry["as"])] = found[1] if found else "NOJOB"
            different = self._judge(entry, status, self.mark(out), self.mark(err))
            if not different or name in self.allowed.reasons or not _READS.match(command) or time.monotonic() > ends_at:
                return different
            time.sleep(0.1)

    def _judge(self, entry: Mapping[str, object], status: int, out: str, err: str) -> str:
        _, parts = self.allowed.reasons.get(str(entry["id"]), ("", set()))
        faults = []
        if status != entry["exit"] and "exit" not in parts:
            faults.append(f"exit status {status}, recorded {entry['exit']}")
        for part, found in (("stdout", out), ("stderr", err)):
            recorded, shown = self._tidy(_substitute(str(entry.get(part, "")), _LAST_BLURS)), self._tidy(found)
            same = shown.startswith(recorded) if part == "stderr" and recorded else shown == recorded
            if not same and part not in parts:
                faults.append(f"{part}:\n--- recorded\n{recorded}\n--- sshq\n{shown}\n---")
        return f"{entry['id']}: {entry['cmd']}\n" + "\n".join(faults) if faults else ""

    def _tidy(self, text: str) -> str:
        return "\n".join(line.rstrip() for line in self.allowed.blur(text).strip("\n").split("\n"))

    def mark(self, text: str) -> str:
        """Put marks for what no two clusters share, as the recorder did."""
        for name, job in sorted(self.jobs.items(), key=lambda pair: -len(pair[1])):
            text = re.sub(rf"(?<![\d.:-]){job}(?!\d|:\d)", f"<{name}>", text)
        text = text.replace(self.directory, "<DIR>")
        text = _substitute(text, _BLURS)
        text = re.sub(rf"\b{re.escape(self.user)}\b", "<USER>", text)
        text = re.sub(rf"(?<![\w-]){re.escape(socket.gethostname())}(?![\w-])", "<HOST>", text)
        uid = os.getuid()
        text = re.sub(rf"((?:by |<USER>\(|_[GU]ID=)){uid}\b" if not uid else rf"()\b{uid}\b", r"\g<1><UID>", text)
        text = _substitute(text, _MORE_BLURS)
        last = Path(self.directory, "tj")
        job = last.read_text().split(";")[0].strip() if last.exists() else ""
        if re.fullmatch(r"\d{2,}", job):
            text = re.sub(rf"(?<![\d.:-]){job}(?!\d|:\d)", "<TJ>", text)
        text = _substitute(text, _LAST_BLURS)
        lines = text.split("\n")
        return "\n".join(re.sub(r" +", " ", line).strip() if re.search(r"<[A-Z]\w*>", line) else line for line in lines)


def _substitute(text: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in pairs:
        text = re.sub(pattern, replacement, text)
    return text


def group_entries() -> dict[str, list[Mapping[str, object]]]:
    """Return the recording by group, in its order."""
    groups: dict[str, list[Mapping[str, object]]] = {}
    name = ""
    for entry in load("recordings"):
        name = entry.get("group", name)
        groups.setdefault(name, []).append(entry)
    return {name: entries for name, entries in groups.items() if len(entries) > 1}
