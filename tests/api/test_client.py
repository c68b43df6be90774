"""`sshq.Client`: scripts and commands as futures, on real sshd hosts."""


def test_a_job_is_a_future_with_output_and_ending(program):
    found = program("""
        import json, sshq

        client = sshq.Client()
        text = client.submit("#!/bin/sh\\n#SBATCH --job-name=told\\necho out; echo err >&2; exit 0\\n", error="%j.err")
        open("args.sh", "w").write("#!/bin/sh\\necho $1\\n")
        path = client.submit("args.sh", "an argument", time="1:00", cpus=2)
        command = client.submit(["printf", "%s", "a  b"])
        bad = client.submit(["sh", "-c", "echo last words; exit 3"])
        ending = text.result(60)
        error = bad.exception(60)
        print(json.dumps({
            "ending": [ending.state, ending.exit_code, ending.job_id == text.job_id], "out": [text.stdout(), text.stderr()],
            "path": [path.result(60).state, path.stdout()], "command": [command.result(60).state, command.stdout()],
            "bad": [type(error).__name__, error.ending.exit_code, str(error)], "repr": repr(text).split()[0], "node": bool(text.node),
            "wide": [view["cpus"] for view in client.jobs(path, finished=True)],
        }))
    """)
    assert found["ending"] == ["COMPLETED", 0, True]
    assert found["out"] == ["out\n", "err\n"]
    assert found["path"] == ["COMPLETED", "an argument\n"]
    assert found["command"] == ["COMPLETED", "a  b"]
    assert found["bad"][:2] == ["JobFailedError", 3]
    assert "last words" in found["bad"][2]
    assert (found["repr"], found["node"], found["wide"]) == ("<sshq.Job", True, [2])


def test_arrays_cancels_and_jobs_of_others(program):
    found = program("""
        import concurrent.futures, json, sshq

        client = sshq.Client()
        tasks = client.submit_array(["sh", "-c", "exit $SLURM_ARRAY_TASK_ID"], array="0-2")
        long = client.submit(["sleep", "300"])
        waiting = client.submit_array(["sleep", "300"], array="0-3", hold=True)
        for item in client.events(long):
            if "RUNNING" in [view["state"] for view in client.jobs(long)]:
                break
        while not long.running():
            pass
        running = long.running()
        accepted = long.cancel()
        waiting[1].cancel()
        try:
            long.result(60)
            said = "nothing"
        except concurrent.futures.CancelledError:
            said = "cancelled"
        first = waiting[1].wait(60) and waiting[1].cancelled()
        client.cancel([waiting[0].job_id])
        concurrent.futures.wait(waiting, 60)
        again = client.job(f"{tasks[2].job_id}_2")
        print(json.dumps({
            "codes": [0 if t.exception(60) is None else t.exception().ending.exit_code for t in tasks], "said": said,
            "running": running, "accepted": [accepted, long.cancel()], "waiting": [t.cancelled() for t in waiting], "first": first,
            "again": again.exception(60).ending.exit_code, "left": [j["job_id"] for j in client.jobs()],
        }))
    """)
    assert found["codes"] == [0, 1, 2]
    assert (found["said"], found["running"], found["accepted"]) == ("cancelled", True, [True, False])
    assert (found["first"], found["waiting"]) == (True, [True] * 4)
    assert (found["again"], found["left"]) == (2, [])


def test_what_cannot_be_right_is_said_at_once(program):
    found = program("""
        import json, sshq
        from sshq.errors import SshqError

        client = sshq.Client()
        said = []
        for words, options in (
            (["true"], {"tiem": "10"}), (["true"], {"time": "soon"}), (["true"], {"partition": "nowhere"}), (["true"], {"array": "0-3"}),
            ("no-such.sh", {}), (["true"], {"exclusive": "perhaps", "hold": "x"}), (["true"], {"parsable": True}),
        ):
            try:
                client.submit(words, **options)
                said.append("")
            except SshqError as error:
                said.append(f"{type(error).__name__}: {error.message} {error.hint or ''}")
        try:
            client.job(4711)
        except SshqError as error:
            said.append(error.message)
        print(json.dumps(said))
    """)
    assert "no option 'tiem'" in found[0]
    assert "did you mean time?" in found[0]
    assert "Invalid --time specification" in found[1]
    assert "invalid partition" in found[2].lower()
    assert "submit_array" in found[3]
    assert "Unable to open file no-such.sh" in found[4]
    assert "hold is a flag" in found[5]
    assert "no option 'parsable'" in found[6]
    assert found[7] == "Invalid job id specified"


def test_futures_outlive_the_controller(shared_lab):
    """Killed and started anew while a program waits: nothing is lost, nothing is asked twice."""
    import json
    import subprocess
    import sys
    from pathlib import Path

    gate = Path(shared_lab.work, "gate")
    Path(shared_lab.work, "wait.py").write_text(
        "import sshq, json\n"
        "client = sshq.Client()\n"
        f"jobs = [client.submit(['sh', '-c', 'until [ -e {gate} ]; do sleep 0.1; done; echo ' + str(n)]) for n in range(3)]\n"
        "print('submitted', flush=True)\n"
        "print(json.dumps([job.result(90).state for job in jobs] + [job.stdout() for job in jobs]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "wait.py"], cwd=shared_lab.work, env=shared_lab.env, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "submitted\n"
    shared_lab.kill9()
    gate.touch()
    shared_lab.up()
    out, _ = process.communicate(timeout=100)
    assert json.loads(out) == ["COMPLETED"] * 3 + ["0\n", "1\n", "2\n"]


def test_without_a_controller_it_says_what_to_do(instance):
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", "import sshq\ntry: sshq.Client().submit(['true'])\nexcept sshq.errors.SshqError as e: print(e.hint)"],
        cwd=instance.work, env=instance.env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "sshq up\n", done.stderr


def test_many_are_submitted_at_once_and_one_that_is_refused_is_named(program):
    found = program("""
        import json, sshq, time

        client = sshq.Client()
        begun = time.monotonic()
        jobs = client.submit_many((["sh", "-c", f"exit {n % 2}"] for n in range(1200)), hold=True, output="/dev/null")
        ids = [job.job_id for job in jobs]
        try:
            client.submit_many([["true"], "#!/bin/sh\\n#SBATCH -p nowhere\\n", ["true"]], hold=True)
            said = []
        except sshq.errors.RefusedError as error:
            said = [error.message, error.detail[0], len(error.jobs)]
        client.cancel(job.job_id for job in jobs[4:])
        print(json.dumps({"count": len(set(ids)), "ordered": ids == sorted(ids), "said": said, "cancelled": jobs[9].wait(30) and jobs[9].cancelled(),
                          "states": [view["state"] for view in client.jobs(*ids[:4])]}))
        client.cancel(ids[:4])
    """)
    assert (found["count"], found["ordered"], found["cancelled"]) == (1200, True, True)
    assert "invalid partition" in found["said"][0].lower()
    assert found["said"][1:] == ["submission 1; 0 were taken", 0]
    assert found["states"] == ["PENDING"] * 4
