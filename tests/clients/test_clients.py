"""Public tools written for Slurm, with sshq's shims on their PATH: what they do there they do here, unmodified.

`acceptance/` holds a script for each of some tools, as they were proved on Slurm 22.05.8; they are kept as they are.  The tests
after it are small programs that use a tool as its users do and look closer.  All share four hosts behind real sshds, and
each tool has a fresh virtual environment with nothing of ours.
"""

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from bed import Instance

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

TOOLS = {  # the versions that were proved on Slurm 22.05.8
    "submitit": "submitit==1.5.4", "simple_slurm": "simple-slurm==0.3.6", "psij": "psij-python==0.9.11", "toil": "toil==9.6.0",
}  # fmt: skip
FURTHER = {"slurmpy": "slurmpy==0.0.8", "clusterfutures": "clusterfutures==0.5"}
ACCEPTANCE = Path(__file__).parent / "acceptance"


def make_environment(place: Path, package: str) -> Path:
    """A virtual environment with a tool; the path of its Python."""
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    install = [place / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", package]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return place / "bin/python"


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """`interpreter("submitit")`: the Python that has it.  All are made at once, and each is waited for when it is needed."""
    with ThreadPoolExecutor(2) as pool:
        made: dict[str, Future[Path]] = {
            tool: pool.submit(make_environment, tmp_path_factory.mktemp(tool), package) for tool, package in (TOOLS | FURTHER).items()
        }
        yield lambda tool: made[tool].result(300)


@pytest.fixture(scope="module")
def lab(loopback) -> Iterator[Instance]:
    with Instance() as instance:
        instance.write_config("kill_wait: 2s\n")
        instance.use(loopback.hosts, sshq_slots=4, sshq_cpus=4, sshq_memory="4G")
        instance.up()
        instance.ready()
        instance.out("shims", f"{instance.dir}/shims")
        yield instance


def users_environment(lab: Instance) -> dict[str, str]:
    """What a user's shell has: the shims come first, and know their SSHQ_HOME."""
    env = {name: value for name, value in lab.env.items() if name not in ("PYTHONPATH", "SSHQ_HOME")}
    return env | {"PATH": f"{lab.dir}/shims:{env['PATH']}"}


@pytest.mark.parametrize("directory", ["a shared directory", "where the tool puts things"])
def test_the_acceptance_scripts_of_all_tools_pass(lab, interpreter, directory):
    """All at once, as on a cluster that has more than one user."""
    cwd = Path(lab.home if directory.startswith("where") else lab.work)
    env = users_environment(lab) | ({} if directory.startswith("where") else {"CLIENT_WORKDIR": str(cwd / "clients")})
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    running = {
        tool: subprocess.Popen(
            [interpreter(tool), ACCEPTANCE / f"client_{tool}.py"], cwd=cwd, env=env | {"CLIENT_LIMIT": "240"}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for tool in TOOLS
    }  # fmt: skip
    said = {tool: process.communicate(timeout=300)[0] for tool, process in running.items()}
    failed = {tool: text for tool, text in said.items() if not text.splitlines()[-1:][0].startswith("PASS ")}
    assert not failed, "\n".join(failed.values()) + lab.logs()


@pytest.fixture
def run_client(lab, interpreter, tmp_path):
    """Run a program with a tool on four hosts; what it prints last is JSON."""
    work = Path(lab.work, tmp_path.name)
    work.mkdir()

    def run(tool: str, program: str, *words: str):
        file = work / "client.py"
        file.write_text(textwrap.dedent(program))
        done = subprocess.run(
            [interpreter(tool), file, *words], cwd=work, env=users_environment(lab), capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{lab.logs()}"
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_submitit_brings_results_and_exceptions_back(run_client):
    found = run_client("submitit", """
        import json, os, submitit

        def add(a, b):
            return a + b

        def fail():
            raise ValueError("what went wrong")

        executor = submitit.AutoExecutor(folder="log")
        executor.update_parameters(timeout_min=5, cpus_per_task=1, mem_gb=1, name="adder")
        single = executor.submit(add, 3, 4)
        with executor.batch():
            array = [executor.submit(add, i, i) for i in range(5)]
        bad = executor.submit(fail)
        error = bad.exception()
        print(json.dumps({
            "kind": executor.cluster, "single": single.result(), "array": [job.result() for job in array],
            "ids": [job.job_id.partition("_")[2] for job in array], "error": str(error), "traceback": bad.stderr(),
            "states": [job.get_info(mode="force")["State"] for job in (single, array[3], bad)],
        }))
    """)  # fmt: skip
    assert (found["kind"], found["single"], found["array"], found["ids"]) == ("slurm", 7, [0, 2, 4, 6, 8], list("01234"))
    assert "what went wrong" in found["error"]
    assert "ValueError: what went wrong" in found["traceback"]
    assert found["states"] == ["COMPLETED", "COMPLETED", "FAILED"]


def test_submitit_tasks_know_their_place(run_client):
    found = run_client("submitit", """
        import json, os, submitit

        def tell():
            here = submitit.JobEnvironment()
            print("this is", here.global_rank, flush=True)
            return here.global_rank, here.local_rank, here.node, here.num_tasks, here.num_nodes, len(here.hostnames)

        executor = submitit.SlurmExecutor(folder="log")
        executor.update_parameters(time=5, nodes=1, ntasks_per_node=3, cpus_per_task=1)
        job = executor.submit(tell)
        print(json.dumps({"places": job.results(), "log": open(job.paths.folder / f"{job.job_id}_2_log.out").read()}))
    """)  # fmt: skip
    assert found["places"] == [[rank, rank, 0, 3, 1, 1] for rank in range(3)]
    assert "this is 2" in found["log"]


def test_submitit_cancels_what_ignores_term(run_client):
    found = run_client("submitit", """
        import json, submitit, time

        executor = submitit.SlurmExecutor(folder="log")
        executor.update_parameters(time=5)
        jobs = [executor.submit(time.sleep, 300) for _ in range(2)]
        seen = []
        while jobs[0].state != "RUNNING" or jobs[1].state != "RUNNING":
            seen.append([job.get_info(mode="force").get("State") for job in jobs])
            time.sleep(0.1)
        nodes = [job.get_info()["NodeList"] for job in jobs]
        jobs[0].cancel(check=True)
        at_once = jobs[0].get_info(mode="force")["State"].split()[0]
        print(json.dumps({"nodes": nodes, "at_once": at_once, "done": jobs[0].done(force_check=True), "other": jobs[1].done(force_check=True)}))
        jobs[1].cancel()
    """)  # fmt: skip
    assert found == {"nodes": found["nodes"], "at_once": "CANCELLED", "done": True, "other": False}
    assert all(found["nodes"])


def test_submitit_checkpoints_and_requeues_when_preempted(run_client):
    """USR2 goes to the step and not to the batch script; the program asks for its requeue from inside the job."""
    found = run_client("submitit", """
        import json, os, submitit, time

        class Counter:
            def __init__(self):
                self.lives = 0

            def __call__(self):
                if self.lives:
                    return self.lives, os.environ["SLURM_RESTART_COUNT"]
                open("started", "w").close()
                time.sleep(120)

            def checkpoint(self):
                self.lives += 1
                return submitit.helpers.DelayedSubmission(self)

        executor = submitit.SlurmExecutor(folder="log")
        executor.update_parameters(time=5)
        job = executor.submit(Counter())
        while not os.path.exists("started"):
            time.sleep(0.1)
        job._interrupt(timeout=False)
        print(json.dumps(job.result()))
    """)  # fmt: skip
    assert found == [1, "1"]


def test_simple_slurm_submits_chains_and_looks(run_client):
    found = run_client("simple_slurm", """
        import json, subprocess, time
        from simple_slurm import Slurm

        first = Slurm(array=range(3, 6), job_name="first", output="%A_%a.out", time="00:05:00").sbatch(
            "echo " + Slurm.SLURM_ARRAY_TASK_ID + " of " + Slurm.SLURM_JOB_NAME)
        bad = Slurm(dependency={"afterok": first}, output="bad.out").sbatch("cat *_?.out; exit 4")
        after = Slurm(dependency={"afternotok": bad}, output="after.out").sbatch("echo after")
        never = Slurm(dependency={"afterok": bad}, job_name="never").sbatch("true")
        long = Slurm(job_name="long", cpus_per_task=2).sbatch("sleep 300")

        def look(job):
            slurm.squeue.update_squeue()
            return slurm.squeue.jobs.get(job) or {}

        slurm = Slurm()
        ends = time.monotonic() + 30
        while "DependencyNeverSatisfied" not in look(never).get("NODELIST(REASON)", "") or look(long).get("ST") != "R":
            assert time.monotonic() < ends, (look(never), look(long))
            time.sleep(0.1)
        row = look(long)
        for job in (never, long):
            slurm.scancel.cancel_job(job)
        subprocess.run(["sacct", "-X", "-n", "-P", "-o", "State", "-j", str(bad)], check=True)
        while look(long):
            time.sleep(0.1)
        state = subprocess.run(["sacct", "-X", "-n", "-P", "-o", "State", "-j", str(long)], capture_output=True, text=True).stdout
        print(json.dumps({
            "tasks": sorted(open("bad.out").read().split("\\n")[:-1]), "after": open("after.out").read(),
            "row": [row["NAME"], row["CPUS"], row["NODES"]], "state": state.split()[0],
        }))
    """)  # fmt: skip
    assert found == {
        "tasks": ["3 of first", "4 of first", "5 of first"], "after": "after\n", "row": ["long", "2", "1"], "state": "CANCELLED",
    }  # fmt: skip


def test_simple_slurm_runs_commands_with_srun(run_client):
    found = run_client("simple_slurm", """
        import json, subprocess, sys

        def call(text):
            done = subprocess.run([sys.executable, "-c", "from simple_slurm import Slurm; " + text], capture_output=True, text=True)
            return done.stdout, done.stderr

        two, _ = call("Slurm(ntasks=2, time=5).srun('printenv SLURM_PROCID SLURM_STEP_ID')")
        _, error = call("Slurm(ntasks=1, time=5).srun('sh -c \\"exit 9\\"')")
        print(json.dumps({"two": sorted(two.split()), "error": error}))
    """)  # fmt: skip
    assert found["two"] == ["0", "0", "0", "1"]
    assert "returned non-zero exit status 9" in found["error"]
    assert "task 0: Exited with exit code 9" in found["error"]


def test_slurmpy_chains_jobs(run_client):
    found = run_client("slurmpy", """
        import json, os, time
        from slurmpy import Slurm

        first = Slurm("first", {"time": "00:05:00", "mem": "100M"}).run("echo made > made")
        Slurm("then", {"time": "00:05:00"}).run("cat made > seen; mv seen done", depends_on=[first])
        ends = time.monotonic() + 30
        while not os.path.exists("done"):
            assert time.monotonic() < ends
            time.sleep(0.1)
        print(json.dumps([type(first).__name__, open("done").read()]))
    """)  # fmt: skip
    assert found == ["int", "made\n"]


def test_clusterfutures_maps_over_jobs(run_client):
    found = run_client("clusterfutures", """
        import cfut, json

        with cfut.SlurmExecutor(additional_setup_lines=["#SBATCH --mem=100M"]) as executor:
            print(json.dumps(list(executor.map(pow, [1, 2, 3], [2, 2, 2]))))
    """)  # fmt: skip
    assert found == [1, 4, 9]
