"""Twelve scripts as users write them (`scripts/`), run by whatever `sbatch` is on the PATH, and all that came of them as text.

`python everyday.py WORK` does so in a directory that all nodes see and writes one file a script to `scripts/expected/`: those there
were made by Slurm 22.05.8 on four nodes.  Job ids, names of nodes and times are replaced, so that two clusters can be compared.
"""

import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

SCRIPTS = Path(__file__).parent / "scripts"
SUBMISSIONS = {
    "array_over_files": ["sbatch", "array_over_files.sbatch"],
    "chain": ["./chain.bash"],
    "checkpoint": ["sbatch", "checkpoint.sbatch"],
    "conda": ["sbatch", "conda.sbatch"],
    "heredoc_loop": ["./heredoc_loop.bash"],
    "hostnames": ["sbatch", "hostnames.sbatch"],
    "modules": ["sbatch", "modules.sbatch"],
    "srun_python": ["sbatch", "srun_python.sbatch"],
    "submits_itself": ["sbatch", "submits_itself.sbatch"],
    "tmpdir": ["sbatch", "tmpdir.sbatch"],
    "torchrun": ["sbatch", "torchrun.sbatch"],
    "wrap_loop": ["./wrap_loop.bash"],
}
INPUTS = {"files.txt": "a.txt\nb.txt\nc.txt\n", "a.txt": "one\n", "b.txt": "one two\n", "c.txt": "one two three\n"}
CONDA = """conda() {
    [ "$1" = activate ] || return 1
    export CONDA_DEFAULT_ENV="$2" PATH="$CONDA_ROOT/envs/$2/bin:$PATH"
}
"""
JOB_ID = re.compile(r"(?<=batch job )\d+|(?<=\(job )\d+|(?<=JOB )\d+|(?<=StepId=)\d+|(?<=^count_)\d+|(?<=^conda-)\d+|(?<=^generation-)\d+")
BUSY = re.compile(r"^srun: (Job \d+ step creation temporarily disabled, .*|Step created for .*)\n", re.MULTILINE)  # it depends on the load
ENDED = re.compile(r"^([^ \n]+: line \d+: +\d+ )?Terminated.*\n", re.MULTILINE)  # bash of its child, where it is not ended first itself
STEP_ID = re.compile(r"^\d+(?=\.\d+$)", re.MULTILINE)


def prepare(work: Path, name: str) -> Path:
    """A directory for one script, with everything a user would have there."""
    place = work / name
    shutil.copytree(SCRIPTS, place, ignore=shutil.ignore_patterns("expected"))
    for file, text in INPUTS.items():
        (place / file).write_text(text)
    profile = place / "miniconda3/etc/profile.d"
    profile.mkdir(parents=True)
    (profile / "conda.sh").write_text(CONDA)
    programs = place / "miniconda3/envs/train/bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to("/usr/bin/python3")
    return place


def run_all(work: Path, env: Mapping[str, str], patience_s: float = 120) -> dict[str, str]:
    """Submit them all, wait until the queue is empty, and return what each one left behind."""
    places = {name: prepare(work, name) for name in SUBMISSIONS}
    before = {name: set(os.listdir(place)) for name, place in places.items()}
    said = {}
    for name, command in SUBMISSIONS.items():
        own = {**env, "CONDA_ROOT": str(places[name] / "miniconda3")}
        done = subprocess.run(command, cwd=places[name], env=own, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        said[name] = f"{done.stdout}{done.stderr}exit {done.returncode}\n"
    ends_at = time.monotonic() + patience_s
    while left := ask(env, "squeue", "-h", "-o", "%i %j %T %r"):
        if time.monotonic() > ends_at:
            raise AssertionError(f"still in the queue after {patience_s:g} s:\n{left}")
        time.sleep(0.1)
    nodes = set(ask(env, "sinfo", "-h", "-N", "-o", "%N").split())
    return {name: tell(place, set(os.listdir(place)) - before[name], said[name], nodes) for name, place in places.items()}


def ask(env: Mapping[str, str], *command: str) -> str:
    return subprocess.run(command, env=dict(env), capture_output=True, text=True, check=True).stdout


def tell(place: Path, files: set[str], said: str, nodes: set[str]) -> str:
    """What was said at the submission and what stands in the new files; what differs from run to run is replaced."""
    texts = {"": said} | {file: (place / file).read_text(errors="replace") for file in sorted(files)}
    ids = {i for text in (*texts, *texts.values()) for pattern in (JOB_ID, STEP_ID) for i in pattern.findall(text)}
    names = {one: f"JOB{number}" for number, one in enumerate(sorted(ids, key=int), 1)}

    a_node = re.compile(rf"\b({'|'.join(map(re.escape, nodes))})\b")
    for text in texts.values():  # nodes are numbered as they appear
        for node in a_node.findall(text):
            names.setdefault(node, f"NODE{len(names.keys() & nodes) + 1}")

    def plain(text: str) -> str:
        text = ENDED.sub("", BUSY.sub("", text))
        for pattern in (JOB_ID, STEP_ID, a_node):
            text = pattern.sub(lambda found: names[found[0]], text)
        return re.sub(r"\d{4}-\d\d-\d\dT[\d:]{8}", "TIME", text)

    pages = sorted((plain(file), plain(text)) for file, text in texts.items())
    return "".join(itertools.chain.from_iterable((f"==== {file or 'submission'}\n", text) for file, text in pages))


if __name__ == "__main__":
    (SCRIPTS / "expected").mkdir(exist_ok=True)
    for script, text in run_all(Path(sys.argv[1]), os.environ, 400).items():
        (SCRIPTS / "expected" / f"{script}.txt").write_text(text)
