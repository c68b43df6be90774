"""`sshq.Pool`: multiprocessing.Pool's methods over processes that live in jobs on real hosts."""


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
