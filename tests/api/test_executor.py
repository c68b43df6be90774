"""`sshq.Executor` and `@sshq.job`: Python functions as jobs; on hosts that share the directory and on one that shares nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from api.conftest import run_program


def test_calls_return_raise_and_print(program):
    found = program("""
        import json, os, sshq, traceback

        class Thing:
            def __init__(self, n):
                self.n = n

        class OwnError(Exception):
            def __init__(self, a, b):
                super().__init__(f"{a} and {b}")

        def add(a, b=1):
            print("adding", flush=True)
            return a + b

        def make(thing):
            return Thing(thing.n + 1)

        def fail(kind):
            raise (ValueError("what went wrong") if kind == "plain" else OwnError(1, 2))

        with sshq.Executor(time="5:00") as executor:
            one, two = executor.submit(add, 3, b=4), executor.submit(os.getcwd)
            thing = executor.submit(make, Thing(41))
            bad, own, gone = executor.submit(fail, "plain"), executor.submit(fail, "own"), executor.submit(os._exit, 7)
        error = bad.exception()
        print(json.dumps({
            "sum": one.result(), "out": one.stdout(), "same": os.path.samefile(two.result(), os.getcwd()), "thing": thing.result().n,
            "class": type(thing.result()) is Thing, "error": [type(error).__name__, str(error)], "state": bad.state,
            "cause": "in fail" in "".join(traceback.format_exception(error)), "own": [type(own.exception()).__name__, str(own.exception())],
            "gone": [type(gone.exception()).__name__, gone.exception().ending.exit_code],
            "left": sorted(name for name in os.listdir(".sshq") if name.endswith((".result", ".call"))), "mode": oct(os.stat(".sshq").st_mode),
        }))
    """)
    assert (found["sum"], found["out"], found["same"], found["thing"], found["class"]) == (7, "adding\n", True, 42, True)
    assert found["error"] == ["ValueError", "what went wrong"]
    assert (found["state"], found["cause"]) == ("FAILED", True)
    assert found["own"] == ["OwnError", "1 and 2"]  # although its class cannot be called with what it has in `args`
    assert found["gone"] == ["JobFailedError", 7]
    assert (found["left"], found["mode"]) == ([], "0o40700")


def test_maps_are_arrays(program):
    found = program("""
        import json, os, sshq

        def square(x):
            return x * x

        def where():
            return os.environ["SLURM_ARRAY_TASK_ID"]

        executor = sshq.Executor()
        jobs = executor.map_array(square, range(6), throttle=2)
        print(json.dumps({
            "map": list(executor.map(pow, [2, 3, 4], [3, 2, 1])), "chunks": list(executor.map(square, range(7), chunksize=3)),
            "array": [job.result(60) for job in jobs], "one": len({job.job_id for job in jobs}), "none": list(executor.map(square, [])),
        }))
    """)
    assert found == {
        "map": [8, 9, 4], "chunks": [0, 1, 4, 9, 16, 25, 36], "array": [0, 1, 4, 9, 16, 25], "one": 1, "none": [],
    }  # fmt: skip


def test_a_decorated_function_runs_here_or_there(program):
    found = program("""
        import json, os, sshq

        @sshq.job(time="1:00", name="twice")
        def twice(x):
            "Doubles."
            return x * 2, os.environ.get("SLURM_JOB_NAME")

        print(json.dumps({"here": twice(4), "there": twice.submit(5).result(60), "doc": twice.__doc__,
                          "array": [job.result(60)[0] for job in twice.map_array([1, 2])]}))
    """)
    assert found == {"here": [8, None], "there": [10, "twice"], "doc": "Doubles.", "array": [2, 4]}


def test_large_arguments_and_own_modules(program, shared_lab):
    Path(shared_lab.work, "mymodule.py").write_text("FACTOR = 3\ndef times(data):\n    return len(data) * FACTOR\n")
    found = program("""
        import json, mymodule, os, sshq

        data = os.urandom(3_000_000)
        with sshq.Executor() as executor:
            big = executor.submit(mymodule.times, data)
            back = executor.submit(bytes, data)
        print(json.dumps([big.result(), back.result() == data]))
    """)
    assert found == [9_000_000, True]


def test_what_cannot_travel_is_said_before_anything_is_submitted(program):
    found = program("""
        import json, sshq, threading
        from sshq.errors import SshqError

        executor = sshq.Executor()
        said = []
        for call in (
            lambda: executor.submit(print, threading.Lock()), lambda: sshq.Executor(tiem=3), lambda: sshq.Executor(output="x"),
            lambda: sshq.Executor(python="/no/such/python").submit(print, 1).result(60),
        ):
            try:
                call()
            except SshqError as error:
                said.append(str(error))
        executor.shutdown()
        try:
            executor.submit(print)
        except RuntimeError as error:
            said.append(str(error))
        print(json.dumps(said))
    """)
    assert found[0].startswith("the arguments cannot be pickled")
    assert "tiem" in found[1]
    assert "output is what the Executor sets itself" in found[2]
    assert found[3].startswith("no host of partition lab has a Python 3.8 or newer at /no/such/python: l1 has none, l2 has none")
    assert found[4] == "cannot schedule new futures after shutdown"


@pytest.mark.slow
def test_results_come_home_from_a_host_that_shares_nothing(hosts, instance):
    """A function of __main__, by value, with nothing but a Python there; and a host without Python says so."""
    (host,) = hosts(1, lower="/") if os.environ.get("SSHQ_TEST_WHOLE_ROOT") else hosts()
    instance.use([host])
    instance.up()
    instance.ready()
    text = """
        import json, os, sshq, time

        def double(x):
            print("doubling")
            return x * 2

        try:
            executor = sshq.Executor()
            job = executor.submit(double, 21)
            large = executor.submit(len, os.urandom(5_000_000)).result(60)  # its arguments are brought there
            ends_at, left = time.monotonic() + 20, ["?"]
            while left and time.monotonic() < ends_at:  # removed by a callback, a moment after the result is there
                left = [name for name in os.listdir(".sshq") if name.endswith(".call")]
            print(json.dumps({"result": job.result(60), "out": job.stdout(), "large": large, "left": left}))
        except sshq.RemoteError as error:
            print(json.dumps({"error": str(error)}))
    """
    found = run_program(instance, text)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if host.sh("command -v python3", check=False).returncode:
        assert found["error"] == f"NoPython: it needs Python {version}, which wrote it, none was found"
    else:
        assert found == {"result": 42, "out": "doubling\n", "large": 5_000_000, "left": []} or "Python" in found["error"]


def test_nothing_but_its_owner_unpickles_a_result(tmp_path):
    """A result file that is a link, or belongs to another, is not read."""
    from sshq.api.calls import _read_result
    from sshq.errors import UserError

    real = tmp_path / "real.result"
    real.write_bytes(b'{"ok": true, "size": 0}\n')
    link = tmp_path / "link.result"
    link.symlink_to(real)
    with pytest.raises(OSError, match="symbolic"):
        _read_result(str(link))
    assert _read_result(str(real))[0]["ok"] is True
    if os.geteuid() == 0:
        os.chown(real, 12345, 12345)
        with pytest.raises(UserError, match="uid 12345"):
            _read_result(str(real))
    for cut in (b"", b'{"ok": true, "size": 5}\nabc', b'{"ok": tr'):
        (tmp_path / "cut.result").write_bytes(cut)
        with pytest.raises(FileNotFoundError):
            _read_result(str(tmp_path / "cut.result"))


def test_importing_sshq_imports_nothing_else():
    code = "import sys, sshq; print(json if 'json' in dir() else sorted(m for m in sys.modules if m.startswith('sshq')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "['sshq']", json.dumps(done.stdout)
