"""The client library in the hands of real programs: forks, threads that end jobs meanwhile, errors in a traceback, files left."""

import pickle
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import sshq
from sshq import errors

NAP = """
    import json, os, signal, sys, sshq

    def nap(flag):
        import os, time
        while not os.path.exists(flag):
            time.sleep(0.05)
        return flag

    def fork(work):
        child = os.fork()
        if not child:
            signal.alarm(30)  # a child that waits for its parent's jobs shall not wait for ever
            work()
        return os.waitpid(child, 0)[1]
"""


def test_a_forked_child_ends_and_awaits_nothing_of_its_parents(program, shared_lab):
    """`sys.exit` in the child leaves the block by an exception; a child may also run to the block's end."""
    flag = Path(shared_lab.work, "over")
    flag.unlink(missing_ok=True)
    found = program(
        NAP
        + f"""
    said = {{}}
    with sshq.Executor(time="2:00") as executor:
        job = executor.submit(nap, {str(flag)!r})
        job.wait_start(60)
        said["exits"] = fork(lambda: sys.exit(0))
        child = os.fork()
        if not child:
            signal.alarm(30)
        else:
            said["falls through"] = os.waitpid(child, 0)[1]
            open({str(flag)!r}, "w").close()
    if not child:
        os._exit(0)
    said["job"] = job.result(60)
    print(json.dumps(said))
    """
    )
    assert found == {"exits": 0, "falls through": 0, "job": str(flag)}


def test_a_pool_is_of_the_process_that_made_it(program):
    """The threads that feed it are not in a child: a call there would never return."""
    found = program(
        NAP
        + """
    def ask():
        try:
            pool.apply(abs, (-1,))
        except ValueError as error:
            os._exit(7 if "parent's" in str(error) else 8)
        os._exit(9)

    with sshq.Pool(1, time="2:00") as pool:
        said = {"first": pool.apply(abs, (-1,)), "child": fork(ask) >> 8, "exits": fork(lambda: sys.exit(0))}
        said["again"] = pool.apply(abs, (-2,))
        said["losses"] = pool.losses
    print(json.dumps(said))
    """
    )
    assert found == {"first": 1, "child": 7, "exits": 0, "again": 2, "losses": []}


def test_jobs_may_end_while_the_executor_is_left(program):
    """Threads take turns as often as can be: what ends jobs does so in the midst of the list of those that are left."""
    found = program("""
        import concurrent.futures, json, sshq, sys
        executor = sshq.Executor(time="1:00")
        jobs = executor.map_array(pow, range(60), [2] * 60)
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        while not all(job.done() for job in jobs):
            executor.shutdown(wait=False)
        sys.setswitchinterval(before)
        print(json.dumps(sum(job.result() for job in jobs)))
    """)
    assert found == sum(x * x for x in range(60))


def test_a_pool_closes_its_connections(shared_lab):
    program = Path(shared_lab.work, "closes.py")
    program.write_text(
        textwrap.dedent("""
        import gc, sshq, threading
        with sshq.Pool(2, time="2:00") as pool:
            assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]
        pool.join(60)
        for thread in threading.enumerate():
            if thread.name.startswith("sshq-pool"):
                thread.join(30)
        del pool
        gc.collect()
    """)
    )
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", program], cwd=shared_lab.work, env=shared_lab.env,
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_hosts_of_a_pool_as_sinfo_writes_them(program, shared_lab):
    names = shared_lab.nodes
    found = program(f"""
        import json, os, sshq
        def where(_):
            return os.environ["SLURMD_NODENAME"]
        with sshq.Pool(hosts="{names[0]},{names[1]}", time="2:00") as pool:
            print(json.dumps(sorted({{pool.apply(where, (i,)) for i in range(40)}} | set(pool.map(where, range(100), chunksize=1)))))
    """)
    assert set(found) <= set(names[:2])


def test_what_was_refused_leaves_no_large_arguments_behind(program, shared_lab):
    found = program("""
        import glob, json, os, sshq
        from sshq.errors import RefusedError
        try:
            sshq.Executor(partition="nosuch").submit(len, os.urandom(4 << 20))
        except RefusedError as error:
            print(json.dumps([str(error).splitlines()[0], glob.glob(".sshq/*.call")]))
    """)
    assert found == ["invalid partition specified: nosuch", []]


def test_wrong_options_are_told_when_the_executor_is_made(program):
    found = program("""
        import json, sshq
        from sshq.errors import OptionError
        said = []
        for make in (lambda: sshq.Executor(time="1x"), lambda: sshq.job(time="1x")(len).executor, lambda: sshq.Executor(cpus=0),
                     lambda: sshq.Client().submit_many("job.sh")):
            try:
                make()
            except OptionError as error:
                said.append(error.message)
        print(json.dumps(said))
    """)
    assert found == [
        "Invalid --time specification", "Invalid --time specification", 'Invalid numeric value "0" for --cpus-per-task.',
        "submit_many takes a list of scripts, not one",
    ]  # fmt: skip


def test_a_traceback_shows_the_details_and_the_next_step(shared_lab):
    """A notebook shows no more than Python does: without them `Requested node configuration is not available` is all there is."""
    program = Path(shared_lab.work, "refused.py")
    program.write_text("import sshq\nsshq.Executor(memory='900G').submit(pow, 2, 3)\n")
    done = subprocess.run(
        [sys.executable, program],
        cwd=shared_lab.work,
        env=shared_lab.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "RefusedError: " in done.stderr
    assert f"      {shared_lab.nodes[0]}  921600 MiB asked, 4096 present" in done.stderr
    assert "    hint: sinfo -N" in done.stderr


def test_exceptions_with_an_init_of_their_own_come_back_as_they_are(program):
    found = program("""
        import json, sshq

        class TwoError(Exception):
            def __init__(self, place, code):
                super().__init__(f"{place} said {code}")
                self.code = code

        class FileError(OSError):
            def __init__(self, path):
                super().__init__(2, "gone", path)

        def fail(kind):
            raise TwoError("there", 7) if kind == "two" else FileError("/x")

        executor, said = sshq.Executor(time="1:00"), []
        with sshq.Pool(1, time="1:00") as pool:
            for wait in (lambda kind: executor.submit(fail, kind).result(60), lambda kind: pool.apply(fail, (kind,))):
                try:
                    wait("two")
                except TwoError as error:
                    said.append([str(error), error.code, "TwoError" in str(error.__cause__)])
                try:
                    wait("file")
                except sshq.RemoteError as error:  # what OSError's own __init__ makes of it is lost
                    said.append(error.type_name)
        print(json.dumps(said))
    """)
    assert found == [["there said 7", 7, True], "FileError"] * 2


def test_results_of_a_pool_may_be_of_the_programs_own_classes(program):
    """What makes functions share their globals on the node was taken for a part of the class, which then could not travel."""
    found = program("""
        import json, sshq

        class Point:
            def __init__(self, x):
                self.x = x
            def double(self):
                return Point(2 * self.x)

        def make(x):
            return Point(x).double()

        with sshq.Pool(1, time="1:00") as pool:
            points = pool.map(make, range(3))
            print(json.dumps([point.x if isinstance(point, Point) else None for point in points]))
    """)
    assert found == [0, 2, 4]


def test_what_can_be_raised_is_named_by_the_package():
    """`except sshq.RefusedError` needs no module of ours to be known by name; the stub for type checkers says the same."""
    stub = set(re.findall(r" as (\w+)$", Path(sshq.__file__ + "i").read_text(), re.MULTILINE))
    assert stub == set(sshq.__all__) - {"__version__"}
    for name in sshq.__all__:
        assert getattr(sshq, name) is not None
    for name in ("SshqError", "UserError", "OptionError", "RefusedError", "UnreachableError"):
        assert getattr(sshq, name) is getattr(errors, name)


@pytest.mark.parametrize("error", [
    errors.RefusedError("no", code="unknown_job", detail=("12",), hint="sshq squeue"),
    errors.OptionError("no", source="--time", exit_code=255),
    errors.InventoryError("bad", file="i.yaml", line=2, column=1, text="x"),
    errors.UnreachableError("/run/sock"),
])  # fmt: skip
def test_an_error_survives_a_pickle(error):
    """As from a worker of `ProcessPoolExecutor` that submits: it broke the pool there."""
    error.add_note("while testing")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
    assert again.__notes__[-1] == "while testing"
    assert again.render("x") == error.render("x")
