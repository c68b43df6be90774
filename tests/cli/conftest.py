"""Commands as whole processes, and a controller made of our own wire server with answers written by the test."""

import asyncio
import os
import pathlib
import subprocess
import sys
import threading

import pytest

from sshq.wire.server import Server

ROOT = str(pathlib.Path(__file__).parents[2])


class Place:
    """A directory of its own for each test: HOME, SSHQ_HOME, and where commands run."""

    def __init__(self, base):
        self.home, self.sshq_home, self.work = f"{base}/home", f"{base}/q", f"{base}/w"
        for path in (self.home, self.sshq_home, self.work):
            os.makedirs(path, mode=0o700)
        self.env = {
            "PATH": os.environ["PATH"], "HOME": self.home, "USER": "anna", "LANG": "C.UTF-8", "PYTHONPATH": ROOT,
            "SSHQ_HOME": self.sshq_home,
        }  # fmt: skip

    def argv(self, *words):
        return [sys.executable, "-P", "-s", "-m", "sshq.cli.main", *words]

    def run(self, *words, input="", env=None, cwd=None, timeout_s=60):  # noqa: A002
        done = subprocess.run(
            self.argv(*words), input=input, cwd=cwd or self.work, env=self.env | (env or {}), capture_output=True,
            text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def start(self, *words, **options):
        return subprocess.Popen(
            self.argv(*words), cwd=self.work, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, **options,
        )  # fmt: skip

    def write(self, name, text, mode=0o644):
        path = os.path.join(self.work, name)
        with open(path, "w", newline="") as file:
            file.write(text)
        os.chmod(path, mode)
        return path


class Controller:
    """A wire server in a thread.  `answers[method]` is a result, an exception, or a function of (params, stream)."""

    def __init__(self, path):
        self.asked = []
        self.answers = {}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = Server(path, self.dispatch)
        self.call(self.server.start())

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    async def dispatch(self, _peer, method, params, stream):
        self.asked.append((method, params))
        answer = self.answers[method]
        if callable(answer) and not isinstance(answer, type):
            answer = answer(params, stream)
            if asyncio.iscoroutine(answer):
                answer = await answer
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, list):
            await stream.items(answer)
            return {"count": len(answer)}
        return answer

    def params(self, method):
        return [params for asked, params in self.asked if asked == method]

    def stop(self):
        self.call(self.server.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.fixture
def sshq(place):
    return place.run


@pytest.fixture
def controller(place):
    running = Controller(f"{place.sshq_home}/sock")
    yield running
    running.stop()


def make_job(**changes):
    """One JOB view with plain values."""
    view = {
        "job_id": 1, "array_job_id": None, "array_task_id": None, "array_tasks": None, "array_task_count": 0, "name": "wrap",
        "user": "anna", "uid": 1000, "group": "anna", "gid": 1000, "partition": "lab", "state": "RUNNING", "completing": False,
        "reason": "None", "kind": "script", "priority": 10, "nice": 0, "held": None, "nodes": ["n1"], "batch_host": "n1",
        "req_nodes": [], "exc_nodes": [], "features": None, "num_nodes": 1, "num_tasks": 1, "ntasks_given": False,
        "cpus_per_task": 1, "cpus_per_task_given": False, "cpus": 1, "memory_mib": None, "memory_per_cpu_mib": None,
        "time_limit_s": None, "begin_at": None, "deadline_at": None, "submit_at": 1e9, "eligible_at": 1e9, "start_at": 1e9,
        "end_at": None, "exit_code": None, "exit_signal": None, "restarts": 0, "requeue": True, "retries": 0, "attempt": 1,
        "dependency": None, "work_dir": "/w", "command": "(null)", "std_out": "/w/slurm-1.out", "std_err": None,
        "std_in": "/dev/null", "open_mode": None, "comment": None, "account": None, "qos": None, "licenses": None,
        "cpu_time_s": None, "max_rss_kib": None, "note": None, "submit_host": "head", "private_dir": False, "survivors": [],
        "batch_flag": True, "exclusive": False, "oversubscribe": "OK", "attempts": [], "cancelled_by": None,
    }  # fmt: skip
    return view | changes
