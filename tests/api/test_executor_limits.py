"""`sshq.Executor` where things go wrong or are large: how calls end, what is cut meanwhile, who interrupts, who forks."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from api.conftest import run_program


def test_each_way_to_end_has_its_exception(program, shared_lab):
    found = program("""
        import json, os, signal, sshq, sys, threading, time

        def leave(code):
            sys.exit(code)

        def kill():
            os.kill(os.getpid(), signal.SIGKILL)

        def sleep():
            time.sleep(60)

        def lock():
            return threading.Lock()

        def stranger():
            import types
            module = types.ModuleType("only_there")
            exec("class Thing: pass", module.__dict__)
            module.Thing.__module__ = "only_there"
            sys.modules["only_there"] = module
            import pickle
            pickle.dumps(module.Thing())
            return module.Thing()

        class Bad(Exception):
            def __init__(self, a, b):
                super().__init__(a)

        def bad():
            raise Bad(1, 2)

        with sshq.Executor(time="1:00") as executor:
            jobs = {
                "exit": executor.submit(leave, 3), "zero": executor.submit(leave, 0), "killed": executor.submit(kill),
                "lock": executor.submit(lock), "stranger": executor.submit(stranger), "bad": executor.submit(bad),
            }
            limit = executor.submit(sleep)
            client = executor.client
            limit.wait_start(60)
            said = {name: [type(job.exception(60)).__name__, str(job.exception()).splitlines()[0]] for name, job in jobs.items()}
            import subprocess
            said["limit_job"] = limit.job_id
            limit.cancel()
            try:
                limit.result(60)
            except BaseException as error:
                said["cancelled"] = type(error).__name__
            try:
                executor.submit(print, jobs["exit"])
            except sshq.errors.SshqError as error:
                said["job"] = error.message
            kept = [name for name in os.listdir(".sshq") if name.endswith(".result")]
            said["kept"] = len(kept)
            for name in kept:
                os.unlink(os.path.join(".sshq", name))
        print(json.dumps(said))
    """)
    assert found["exit"] == ["RemoteError", "SystemExit: 3 (the function called sys.exit)"]
    assert found["zero"] == ["RemoteError", "SystemExit: 0 (the function called sys.exit)"]
    assert found["killed"][0] == "JobFailedError"
    assert "FAILED 0:9 (killed by SIGKILL) on l" in found["killed"][1]
    assert found["lock"][0] == "ResultError"
    assert found["lock"][1].startswith("what the function returned, a lock, cannot be pickled: ")
    assert found["stranger"][0] == "ResultError"
    assert "cannot be rebuilt here: No module named 'only_there' (it is kept in " in found["stranger"][1]
    assert found["bad"] == ["Bad", "1"]  # although its class takes more than its `args` have
    assert found["cancelled"] == "CancelledError"
    assert found["job"].endswith("a job cannot travel: pass what its result() returns, or its job_id")
    assert found["kept"] == 1  # what could not be rebuilt here is not thrown away


def test_ends_that_the_queue_decides():
    """Time limit, memory, lost node: by the state that the controller tells."""
    from sshq.api.jobs import Ending, NodeLostError, failure_of

    def ending(state: str, **more: object) -> Ending:
        return Ending.of({"job_id": 7, "state": state, "nodes": ["ws1"], **more})

    assert str(failure_of(ending("TIMEOUT"))) == "job 7 is TIMEOUT on ws1: its time limit ended it"
    assert type(failure_of(ending("OUT_OF_MEMORY", exit_signal=9))).__name__ == "OutOfMemoryError"
    lost = failure_of(ending("NODE_FAIL", note="ws1 rebooted"))
    assert isinstance(lost, NodeLostError)
    assert str(lost) == "job 7 is NODE_FAIL on ws1: its node was lost, it may have run, ws1 rebooted"


def test_ten_thousand_calls_are_one_small_array(program):
    found = program("""
        import json, os, sshq, time

        def add(x, y):
            return x + y

        executor = sshq.Executor(hold=True)
        begun = time.monotonic()
        jobs = executor.map_array(add, range(10_000), range(10_000))
        took = time.monotonic() - begun
        one = {job.job_id for job in jobs}
        large = os.path.exists(".sshq") and [name for name in os.listdir(".sshq") if name.endswith(".call")]
        script = len(str(executor.client.connect().call("script", {"ref": [jobs[0].job_id, None]}).get("script")))
        executor.client.cancel(jobs[:1] and [jobs[0].job_id])
        print(json.dumps({"took": took, "one": len(one), "count": len(jobs), "large": large, "script": script}))
    """)
    assert (found["one"], found["count"], found["large"]) == (1, 10_000, [])
    assert found["took"] < 20
    assert found["script"] < 400_000


def test_ctrl_c_in_the_block_cancels_and_without_it_jobs_go_on(shared_lab):
    text = """
import sshq, sys, time
def sleep():
    time.sleep({seconds})
executor = sshq.Executor(time="5:00", name="{name}")
job = executor.submit(sleep)
job.wait_start(60)
{block}
"""
    wait = "print('going', flush=True)\n    job.result()"
    blocks = {"inside": f"with executor:\n    {wait}", "outside": f"if True:\n    {wait}"}
    jobs = {}
    for name, block in blocks.items():
        seconds = 300 if name == "inside" else 2
        Path(shared_lab.work, f"{name}.py").write_text(text.format(name=name, block=block, seconds=seconds))
        process = subprocess.Popen(
            [sys.executable, f"{name}.py"], cwd=shared_lab.work, env=shared_lab.env, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout.readline() == "going\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert "KeyboardInterrupt" in err
        jobs[name] = shared_lab.out("sacct", "-n", "-X", "-P", "--name", name, "-o", "jobid").split()[0]
    assert shared_lab.until_state(jobs["inside"], "CANCELLED", "COMPLETED").startswith("CANCELLED")
    assert shared_lab.until_state(jobs["outside"], "CANCELLED", "COMPLETED") == "COMPLETED"


def test_a_fork_and_a_spawn_have_jobs_of_their_own(program):
    found = program("""
        import concurrent.futures, json, multiprocessing, os, sshq

        def ask(client, x):
            return sshq.Executor(client=client).submit(pow, x, 2).result(60)

        if __name__ == "__main__":
            client = sshq.Client()
            executor = sshq.Executor(client=client)
            mine = executor.submit(os.getpid)
            answers = {}
            for method in ("fork", "spawn"):
                with multiprocessing.get_context(method).Pool(2) as pool:
                    answers[method] = pool.starmap(ask, [(client, 3), (client, 4)])
            answers["mine"] = isinstance(mine.result(60), int)
            answers["again"] = executor.submit(pow, 2, 5).result(60)
            print(json.dumps(answers))
    """)
    assert found == {"fork": [9, 16], "spawn": [9, 16], "mine": True, "again": 32}


@pytest.mark.slow
def test_a_large_result_comes_home_whole_although_the_line_is_cut_twice(hosts, instance):
    """100 MB from a host that shares nothing; what had come before a cut is not sent again."""
    (host,) = hosts()
    instance.use([host])
    instance.up()
    instance.ready()
    text = (
        "import hashlib, json, random, sshq\n"
        "job = sshq.Executor().submit(random.Random(5).randbytes, 100_000_000)\n"
        "print(json.dumps(job.result(100) == random.Random(5).randbytes(100_000_000)))\n"
    )
    Path(instance.work, "large.py").write_text(text)
    process = subprocess.Popen([sys.executable, "large.py"], cwd=instance.work, env=instance.env, stdout=subprocess.PIPE, text=True)
    folder = Path(instance.work, ".sshq")

    def came() -> int:
        return max((os.lstat(path).st_size for path in folder.glob("*") if path.exists()), default=0) if folder.exists() else 0

    for least in (5 << 20, 40 << 20):
        instance.wait_for(lambda least=least: came() > least, 60, f"{least} bytes have come")
        host.kill_sessions()
    out, _ = process.communicate(timeout=100)
    assert json.loads(out) is True
    assert instance.logs().count("ready generation=") >= 3  # it was cut twice,
    assert "the output was cut off at" in instance.logs()  # and not after all had come
    assert run_program(instance, "import json, os\nprint(json.dumps([n for n in os.listdir('.sshq') if 'result' in n]))") == []
