"""`sshq.Pool`: multiprocessing.Pool's methods over processes that live in jobs on real hosts."""

import os
import signal

import pytest


def test_it_is_multiprocessings_pool(program):
    found = program("""
        import json, os, sshq, time

        STATE = {}

        def begin(value):
            STATE["begun"] = value

        def begun():
            return STATE["begun"]

        def square(x):
            if x == 13:
                raise ValueError("thirteen")
            print("squaring", x)
            return x * x

        def slow(x):
            time.sleep(0.4 if x == 0 else 0)
            return x

        def where(_):
            time.sleep(0.05)
            return os.getpid()

        got = []
        with sshq.Pool(3, initializer=begin, initargs=("yes",), time="5:00") as pool:
            later = pool.map_async(square, range(5), callback=got.append)
            try:
                pool.map(square, [1, 13])
                said = ""
            except ValueError as error:
                said = str(error)
            print(json.dumps({
                "map": pool.map(square, range(10)), "starmap": pool.starmap(pow, [(2, 3), (3, 2)]), "apply": pool.apply(int, ("ff",), {"base": 16}),
                "imap": list(pool.imap(slow, range(4))), "unordered": sorted(pool.imap_unordered(slow, range(6), chunksize=2)), "later": later.get(20),
                "called": got, "said": said, "begun": pool.apply(begun), "empty": pool.map(square, []), "processes": len(set(pool.map(where, range(30), 1))),
                "jobs": len({job["job_id"] for job in pool.client.jobs() if job["name"] == "pool"}), "losses": pool.losses,
                "big": len(pool.apply(bytes, (1_000_000,))),
            }))
            pool.close()
            pool.join(30)
    """)
    assert found == {
        "map": [n * n for n in range(10)], "starmap": [8, 9], "apply": 255, "imap": [0, 1, 2, 3], "unordered": [0, 1, 2, 3, 4, 5],
        "later": [0, 1, 4, 9, 16], "called": [[0, 1, 4, 9, 16]], "said": "thirteen", "begun": "yes", "empty": [], "processes": 3,
        "jobs": 3, "losses": [], "big": 1_000_000,
    }  # fmt: skip


def test_a_lost_worker_is_replaced_and_its_calls_run_elsewhere(program, shared_lab):
    found = program("""
        import json, os, signal, sshq, time

        def die_once(x):
            if x == 3 and not os.path.exists("died"):
                open("died", "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return x

        def die(_):
            os._exit(9)

        with sshq.Pool(2) as pool:
            values = pool.map(die_once, range(8), 1)
            lost = len(pool.losses)
            try:
                pool.apply(die, (0,))
                said = ""
            except sshq.WorkerLostError as error:
                said = str(error)
            print(json.dumps({"values": values, "lost": lost, "said": said}))
    """)
    assert found["values"] == list(range(8))
    assert found["lost"] == 1
    assert "workers were lost with this call" in found["said"]
    shared_lab.wait_for(lambda: not shared_lab.out("squeue", "-h", "-n", "pool"), 20, "the pool's jobs are gone")


def test_a_pool_outlives_the_controller(shared_lab):
    import json
    import subprocess
    import sys
    from pathlib import Path

    gate = Path(shared_lab.work, "pool-gate")
    Path(shared_lab.work, "pool.py").write_text(
        "import sshq, json, os, time\n"
        "def wait(x):\n"
        f"    while not os.path.exists({str(gate)!r}):\n"
        "        time.sleep(0.05)\n"
        "    return x\n"
        "with sshq.Pool(2) as pool:\n"
        "    first = pool.map(abs, [-1])\n"
        "    later = pool.map_async(wait, range(20), 1)\n"
        "    print('going', flush=True)\n"
        "    print(json.dumps([first, later.get(80), pool.map(abs, [-2, -3]), pool.losses]))\n"
    )
    process = subprocess.Popen([sys.executable, "pool.py"], cwd=shared_lab.work, env=shared_lab.env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "going\n"
    shared_lab.kill9()
    gate.touch()
    shared_lab.up()
    out, _ = process.communicate(timeout=100)
    assert json.loads(out) == [[1], list(range(20)), [2, 3], []]


def test_what_cannot_be_is_said(program):
    found = program("""
        import json, sshq, threading
        from sshq.errors import SshqError

        def fail():
            raise RuntimeError("cannot begin")

        said = []
        for make in (lambda: sshq.Pool(0), lambda: sshq.Pool(1, array="0-3"), lambda: sshq.Pool(1, tiem="1"), lambda: sshq.Pool(1, hosts=["nowhere"])):
            try:
                make()
            except (ValueError, SshqError) as error:
                said.append(str(error))
        with sshq.Pool(1, initializer=fail) as pool:
            try:
                pool.map(abs, [1])
            except RuntimeError as error:
                said.append(str(error))
        with sshq.Pool(1) as pool:
            try:
                pool.apply(print, (threading.Lock(),))
            except SshqError as error:
                said.append(str(error))
            pool.close()
            try:
                pool.map(abs, [1])
            except ValueError as error:
                said.append(str(error))
        print(json.dumps(said))
    """)
    assert found[0] == "Number of processes must be at least 1"
    assert "array is what the Pool sets itself" in found[1]
    assert "tiem" in found[2]
    assert "Invalid node name specified" in found[3]
    assert found[4] == "cannot begin"
    assert found[5].startswith("the arguments cannot be pickled")
    assert found[6] == "Pool not running"


def test_iterators_read_their_input_as_results_are_taken_and_go_on_after_an_error(program):
    found = program("""
        import itertools, json, os, sshq, sys, threading, time

        read = []
        def endless():
            for n in itertools.count():
                read.append(n)
                yield n

        def broken():
            yield from (1, 2)
            raise KeyError("the input broke")

        def square(x):
            if x == 2:
                raise ValueError("two")
            return x * x

        def leave(code):
            sys.exit(code)

        said = {}
        def ask(name, call):
            try:
                said[name] = call()
            except Exception as error:
                said[name] = f"{type(error).__name__}: " + (str(error) or " ").splitlines()[0]

        with sshq.Pool(2) as pool:
            iterator = pool.imap(square, endless())
            said["first"] = [next(iterator), next(iterator)]
            ask("raised", iterator.next)
            said["after"] = [next(iterator) for _ in range(300)][-1] == 302 ** 2
            said["ahead"] = len(read) - 303
            said["input"] = []
            iterator = pool.imap_unordered(abs, broken())
            ask("one", lambda: sorted([next(iterator), next(iterator)]))
            ask("broke", iterator.next)
            ask("exit", lambda: pool.apply(leave, (3,)))
            ask("unpicklable", lambda: pool.apply(threading.Lock))
            ask("late", lambda: pool.imap(time.sleep, [1]).next(0.05))
            def bad_callback(_):
                raise RuntimeError("a callback's own")
            pool.map_async(abs, [1], callback=bad_callback).get(20)
            errors = []
            failed = pool.map_async(square, [1, 2, 3], 1, error_callback=errors.append)
            failed.wait(20)
            said["failed"] = [failed.ready(), failed.successful(), [str(e) for e in errors]]
            said["works"] = pool.map(abs, [-1, -2])
            ask("chunksize", lambda: pool.imap(abs, [1], chunksize=0))
            said["losses"] = pool.losses
        print(json.dumps(said))
    """)
    assert found["first"] == [0, 1]
    assert found["raised"] == "ValueError: two"
    assert found["after"] is True
    assert 0 < found["ahead"] <= 128
    assert (found["one"], found["broke"]) == ([1, 2], "KeyError: 'the input broke'")
    assert found["exit"] == "RemoteError: SystemExit: 3 (the function called sys.exit)"
    assert found["unpicklable"].startswith("ResultError: what the function returned cannot be pickled: cannot pickle '_thread.lock'")
    assert found["late"].startswith("TimeoutError")
    assert found["failed"] == [True, False, ["two"]]
    assert (found["works"], found["losses"]) == ([1, 2], [])
    assert found["chunksize"] == "ValueError: Chunksize must be 1+, not 0"


def test_processes_that_live_for_some_calls_only(program):
    found = program("""
        import json, os, sshq

        BEGUN = []

        def begin():
            BEGUN.append(os.getpid())

        def where(x):
            return os.getpid(), BEGUN[-1] == os.getpid(), len(BEGUN)

        def die_once(x):
            if x == 5 and not os.path.exists("life-ended"):
                open("life-ended", "w").close()
                os._exit(4)
            return x

        with sshq.Pool(1, maxtasksperchild=3, initializer=begin) as pool:
            found = pool.map(where, range(8), 1)
            values = pool.map(die_once, range(9), 1)
            print(json.dumps({"pids": len({pid for pid, _, _ in found}), "begun": all(ok and n == 1 for _, ok, n in found),
                              "jobs": len({j["job_id"] for j in pool.client.jobs(names=["pool"])}), "values": values, "lost": len(pool.losses)}))
    """)
    assert found == {"pids": 3, "begun": True, "jobs": 1, "values": list(range(9)), "lost": 1}


def test_nothing_of_a_pool_is_left_on_the_nodes(program, shared_lab, loopback):
    """Left by an exception in the middle of long calls, and with workers that start children of their own."""
    found = program("""
        import json, os, sshq, subprocess, time

        def busy(x):
            child = subprocess.Popen(["sleep", "987.25"])
            open(f"busy-{x}", "w").write(f"{os.getpid()} {child.pid}")
            time.sleep(600)

        pids = []
        try:
            with sshq.Pool(2) as pool:
                pool.map_async(busy, range(2), 1)
                ends_at = time.monotonic() + 30
                while not all(os.path.exists(f"busy-{x}") and os.path.getsize(f"busy-{x}") for x in range(2)) and time.monotonic() < ends_at:
                    time.sleep(0.05)
                pids = [int(word) for x in range(2) for word in open(f"busy-{x}").read().split()]
                raise ZeroDivisionError
        except ZeroDivisionError:
            print(json.dumps(pids))
    """)
    assert len(found) == 4

    def gone() -> bool:
        import os

        return not any(os.path.exists(f"/proc/{pid}") for pid in found) and not shared_lab.out("squeue", "-h", "-n", "pool")

    shared_lab.wait_for(gone, 30, f"processes {found} of the pool are gone")


def test_all_workers_lost_is_said_and_ends_the_calls(program):
    found = program("""
        import json, os, sshq

        def die(_):
            os._exit(9)

        with sshq.Pool(1) as pool:
            pool._replacements = 0  # the last one
            later = pool.map_async(die, range(3), 1)
            try:
                later.get(60)
            except sshq.WorkerLostError as error:
                said = str(error)
            try:
                pool.map(abs, [1])
            except sshq.WorkerLostError as error:
                again = str(error)
        print(json.dumps([said, again]))
    """)
    assert "no worker is left" in found[0]
    assert "its process ended with status 9" in found[0]
    assert found[1] == found[0]


@pytest.mark.slow
def test_a_host_that_is_cut_off_loses_its_calls_to_others(loopback, instance):
    """Its sshd and all its sessions are killed in the middle of a call: the call runs elsewhere, and what comes back late is nobody's."""
    import json
    import subprocess
    import sys
    from pathlib import Path

    here, away = loopback.hosts[:2]
    instance.use([here, away], sshq_slots=1, sshq_cpus=1, sshq_memory="4G")
    instance.up()
    instance.ready()
    Path(instance.work, "cut.py").write_text(
        "import json, os, sshq, time\n"
        f"AWAY = {away.name!r}\n"
        "def where(x):\n"
        "    node = os.environ['SLURMD_NODENAME']\n"
        "    if node == AWAY:\n"
        "        open('there', 'w').close()\n"
        "        while not os.path.exists('back'):\n"
        "            time.sleep(0.02)\n"
        "    elif not os.path.exists('there'):\n"
        "        time.sleep(0.1)\n"
        "    return x, node\n"
        "with sshq.Pool(2, away_s=0.5) as pool:\n"
        "    found = pool.map(where, range(12), 1)\n"
        "    print(json.dumps([[x for x, _ in found], sorted({node for _, node in found}), pool.losses]))\n"
    )
    process = subprocess.Popen([sys.executable, "cut.py"], cwd=instance.work, env=instance.env, stdout=subprocess.PIPE, text=True)
    instance.wait_for(lambda: Path(instance.work, "there").exists(), 60, "a call runs there")
    sessions = sshd_below(away.process.pid)
    away.stop()
    for pid in sessions:
        os.kill(pid, signal.SIGKILL)
    try:
        out, _ = process.communicate(timeout=60)
        numbers, nodes, losses = json.loads(out)
    finally:
        away.start()
        away.wait_up()
        Path(instance.work, "back").touch()
    assert (numbers, nodes) == (list(range(12)), [here.name])
    assert len(losses) == 1
    assert "unreachable" in losses[0]
    instance.run("hosts", "retry", away.name)
    instance.wait_for(lambda: not instance.out("squeue", "-h"), 40, "the pool's jobs are gone, there too")


def sshd_below(pid: int) -> list[int]:
    """The sshd processes that serve the connections of a listening one."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        below = [int(word) for word in file.read().split()]
    found = []
    for child in below:
        with open(f"/proc/{child}/comm") as file:
            if file.read().startswith("sshd"):
                found += [child, *sshd_below(child)]
    return found
