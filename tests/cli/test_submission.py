"""sbatch and srun against a controller: what travels, the nonce, lost replies, notes, waiting, refusals."""

import asyncio
import os
import pty
import signal
import stat
import subprocess
import threading

import pytest

from sshq.errors import RefusedError

from .conftest import make_job

SCRIPT = "#!/bin/sh\n#SBATCH -J named\n#SBATCH -p gpuu\necho hi\n"


def test_a_submission_prints_its_number_and_carries_what_was_asked(place, controller, sshq):
    controller.answers["submit"] = {"job_id": 7, "array_job_id": None, "notes": []}
    place.write("job.sh", SCRIPT)
    done = sshq("sbatch", "-t", "10", "job.sh", "a", "b c", env={"SSHQ_SECRET": "x", "KEPT": "y"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "Submitted batch job 7\n", "")
    (params,) = controller.params("submit")
    description = params["description"]
    assert (description["name"], description["time_limit_s"], description["args"]) == ("named", 600, ["a", "b c"])
    assert description["script"] == SCRIPT and description["work_dir"] == place.work
    assert params["environ"]["KEPT"] == "y"
    assert not any(name.startswith("SSHQ_") for name in params["environ"])
    found = os.stat(place.work)
    assert params["directory"] == {
        "path": os.path.realpath(place.work), "dev": found.st_dev, "ino": found.st_ino, "nonce_path": None, "nonce": None,
    }  # fmt: skip
    assert len(params["token"]) == 32 and int(params["token"], 16) >= 0


def test_parsable_and_quiet_print_only_what_scripts_want(controller, sshq):
    controller.answers["submit"] = {"job_id": 8, "notes": ["no host shares /w"]}
    done = sshq("sbatch", "--parsable", "--wrap", "true")
    assert (done.stdout, done.stderr) == ("8\n", "sbatch: no host shares /w\n")
    done = sshq("sbatch", "-Q", "--wrap", "true")
    assert (done.stdout, done.stderr) == ("", "")


def test_the_nonce_is_the_users_file_only_while_it_is_needed(place, controller, sshq):
    seen = []

    def submit(params, _stream):
        directory = params["directory"]
        if directory["nonce"] is None:
            return {"need_nonce": True}
        path = directory["nonce_path"]
        seen.append((os.path.dirname(path), os.path.basename(path)[:12], stat.S_IMODE(os.stat(path).st_mode), open(path).read()))
        assert open(path).read() == directory["nonce"]
        return {"job_id": 3, "notes": []}

    controller.answers["submit"] = submit
    assert sshq("sbatch", "--wrap", "true").stdout == "Submitted batch job 3\n"
    ((directory, prefix, mode, nonce),) = seen
    assert (directory, prefix, mode) == (os.path.realpath(place.work), ".sshq-nonce-", 0o600)
    assert len(nonce) == 32
    assert os.listdir(place.work) == []
    first, second = controller.params("submit")
    assert first["token"] == second["token"]


def test_the_nonce_is_removed_also_when_the_submission_is_refused(place, controller, sshq):
    controller.answers["submit"] = lambda params, _: (
        {"need_nonce": True} if params["directory"]["nonce"] is None else RefusedError("no", code="not_now")
    )
    assert sshq("sbatch", "--wrap", "true").returncode == 1
    assert os.listdir(place.work) == []


def test_a_directory_that_does_not_exist_is_not_proved(controller, sshq):
    controller.answers["submit"] = {"job_id": 3}
    assert sshq("sbatch", "-D", "/no/such", "--wrap", "true").returncode == 0
    assert controller.params("submit")[0]["directory"] is None


def test_a_link_is_proved_by_where_it_leads(place, controller, sshq):
    controller.answers["submit"] = {"job_id": 3}
    os.mkdir(f"{place.work}/real")
    os.symlink("real", f"{place.work}/link")
    sshq("sbatch", "-D", "link", "--wrap", "true")
    (params,) = controller.params("submit")
    assert params["directory"]["path"] == os.path.realpath(f"{place.work}/real")
    assert params["description"]["work_dir"] == f"{place.work}/link"


def test_a_lost_reply_is_asked_for_again_with_the_same_token(controller, sshq):
    lost = []

    async def submit(_params, stream):
        if len(lost) < 2:
            lost.append(1)
            stream._channel._writer.transport.abort()  # as a controller that dies now
            await asyncio.sleep(60)
        return {"job_id": 9, "notes": []}

    controller.answers["submit"] = submit
    done = sshq("sbatch", "--wrap", "true")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Submitted batch job 9\n", "")
    assert len(controller.params("submit")) == 3
    assert len({params["token"] for params in controller.params("submit")}) == 1
    assert [params["fresh"] for params in controller.params("submit")] == [True, False, False]  # else it could be made twice


@pytest.mark.slow
def test_where_no_reply_ever_comes_it_is_said_that_the_job_may_exist(controller, sshq):
    async def submit(_params, stream):
        stream._channel._writer.transport.abort()
        await asyncio.sleep(60)

    controller.answers["submit"] = submit
    done = sshq("sbatch", "--wrap", "true")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Unable to contact slurm controller" in done.stderr
    assert "may have been accepted" in done.stderr, done.stderr
    assert "squeue" in done.stderr, done.stderr


@pytest.mark.parametrize(
    "refusal,words,stderr",
    [
        (
            RefusedError(
                "invalid partition specified: gpuu\nsbatch: error: Batch job submission failed: Invalid partition name specified",
                code="unknown_partition", hint="partitions are cpu",
            ),
            ["sbatch", "job.sh"],
            ("sbatch: error: invalid partition specified: gpuu\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified\n"
            "    job.sh:3: #SBATCH -p gpuu\n    hint: partitions are cpu\n"),
        ),
        (
            RefusedError("Invalid feature specification", code="bad_request"),
            ["sbatch", "-C", "nosuch", "--wrap", "true"],
            "sbatch: error: Batch job submission failed: Invalid feature specification\n    -C nosuch\n",
        ),
        (
            RefusedError(
                "invalid partition specified: x\nsbatch: error: Batch job submission failed: Invalid partition name specified",
                code="unknown_partition",
            ),
            ["srun", "-p", "x", "true"],
            ("srun: error: invalid partition specified: x\n"
            "srun: error: Unable to allocate resources: Invalid partition name specified\n    -p x\n"),
        ),
    ],
)  # fmt: skip
def test_a_refusal_names_the_users_own_words(place, controller, sshq, refusal, words, stderr):
    controller.answers["submit"] = refusal
    place.write("job.sh", SCRIPT)
    done = sshq(*words)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", stderr)


@pytest.mark.parametrize(
    "jobs,status",
    [
        ([make_job(state="COMPLETED", exit_code=0)], 0),
        ([make_job(state="FAILED", exit_code=3)], 3),
        ([make_job(state="FAILED", exit_code=130)], 130),
        ([make_job(state="FAILED", exit_code=0, exit_signal=9)], 1),
        ([make_job(state="CANCELLED", start_at=None)], 0),
        ([make_job(state="CANCELLED", start_at=5.0)], 1),
        ([make_job(state="TIMEOUT", exit_code=0, exit_signal=15)], 1),
        ([make_job(state="NODE_FAIL")], 1),
        ([make_job(state="DEADLINE", start_at=None)], 1),
        ([make_job(job_id=n, array_job_id=1, array_task_id=n, state="FAILED", exit_code=n) for n in (1, 4, 2)], 4),
    ],
)
def test_wait_exits_as_slurms_does(controller, sshq, jobs, status):
    controller.answers["submit"] = {"job_id": 1}
    controller.answers["wait"] = lambda _params, stream: _send(stream, jobs)
    assert sshq("sbatch", "-W", "--wrap", "true").returncode == status


async def _send(stream, jobs):
    await stream.items(jobs)
    return {"unknown_ids": []}


def test_an_interrupted_wait_leaves_the_job_and_shows_no_traceback(place, controller):
    controller.answers["submit"] = {"job_id": 5}
    controller.answers["wait"] = lambda _params, _stream: asyncio.sleep(60)
    process = place.start("sbatch", "-W", "--wrap", "true")
    assert process.stdout.readline() == "Submitted batch job 5\n"
    while not controller.params("wait"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (130, "sbatch: job 5 goes on; end it with: scancel 5\n")


def test_a_wait_survives_a_controller_that_goes_and_comes_back(controller, sshq):
    cut = []

    async def wait(_params, stream):
        await stream.items([make_job(job_id=1, state="FAILED", exit_code=2)])
        if not cut:
            cut.append(1)
            stream._channel._writer.close()
            await asyncio.sleep(60)
        await stream.items([make_job(job_id=2, state="FAILED", exit_code=4)])
        return {"unknown_ids": []}

    controller.answers["wait"] = wait
    done = sshq("wait", "1", "2")
    assert (done.returncode, done.stdout) == (4, "1 FAILED 2:0\n2 FAILED 4:0\n")
    assert done.stderr == "sshq: the controller is away, waiting for it\nsshq: the controller is back\n"


def test_on_a_terminal_it_waits_for_jobs_of_an_older_controller_too(place, controller):
    def wait(params, stream):
        if "staging" in params:
            raise RefusedError("unknown parameter 'staging'", code="bad_request")
        return _send(stream, [make_job(state="FAILED", exit_code=2)])

    controller.answers["wait"] = wait
    controller.answers["logs"] = lambda _params, stream: _send_data(stream, b"its output\n")
    for words, status, text in ((("wait", "1"), 2, b"1 FAILED 2:0\n"), (("logs", "-f", "1"), 0, b"its output\n")):
        ours, theirs = pty.openpty()
        done = subprocess.run(place.argv(*words), env=place.env, cwd=place.work, stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=False)
        os.close(theirs)
        os.close(ours)
        assert (done.returncode, done.stdout) == (status, text)


async def _send_data(stream, data):
    await stream.data(data)
    return {"state": "FAILED"}


def test_test_only_says_where_and_when_and_submits_nothing(controller, sshq):
    controller.answers["submit"] = {"test_only": True, "job_id": 7, "start_at": None, "cpus": 2, "node": "n1", "partition": "lab"}
    done = sshq("sbatch", "--test-only", "--wrap", "true")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "sbatch: Job 7 to start when hosts get free using 2 processors on nodes n1 in partition lab\n"

def test_a_step_of_another_job_is_asked_for_there_and_refused_in_slurms_words(controller, sshq):
    controller.answers["part_start"] = RefusedError("Invalid job id specified", code="unknown_job")
    done = sshq("srun", "true", env={"SLURM_JOB_ID": "3"})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "srun: error: Unable to confirm allocation for job 3: Invalid job id specified\n"
    assert sshq("srun", "--jobid=x", "true").stderr == "srun: error: Invalid job id x\n"


def prepare_srun(controller, final, output=b"", errors=b""):
    controller.answers["submit"] = {"job_id": 4}
    controller.answers["follow_job"] = lambda _params, stream: _send(stream, [make_job(job_id=4, started=True)])
    controller.answers["wait"] = lambda _params, stream: _send(stream, [final])
    controller.answers["part_input"] = {"open": True}
    controller.answers["cancel"] = {"results": []}

    async def logs(params, stream):
        await stream.data((output if params["stream"] == "out" else errors)[params["offset"] :])
        return {"offset": 0, "state": "COMPLETED"}

    controller.answers["logs"] = logs


@pytest.mark.parametrize(
    "final,status,stderr",
    [
        (make_job(job_id=4, state="COMPLETED", exit_code=0), 0, "err\n"),
        (make_job(job_id=4, state="FAILED", exit_code=4), 4, "err\n"),  # the srun on the node has told it
        (
            make_job(job_id=4, state="FAILED", exit_code=0, exit_signal=9), 137,
            "err\nsrun: error: n1: task 0: Killed\nsrun: Force Terminated job 4\n",
        ),
        (make_job(job_id=4, state="TIMEOUT"), 1, "err\nsrun: error: n1: task 0: job 4 ended: TIMEOUT\n"),
    ],
)  # fmt: skip
def test_srun_brings_both_streams_and_the_status_home(controller, sshq, final, status, stderr):
    prepare_srun(controller, final, b"one\ntwo\n", b"err\n")
    done = sshq("srun", "prog", "-x", "a b")
    assert (done.returncode, done.stdout, done.stderr) == (status, "one\ntwo\n", stderr)
    (params,) = controller.params("submit")
    description = params["description"]
    words = ["--ntasks=1", "--", "prog", "-x", "a b"]
    assert (description["kind"], description["args"], description["name"]) == ("attended", words, "prog")


def test_sruns_input_goes_along_in_numbered_chunks(controller, sshq):
    prepare_srun(controller, make_job(job_id=4, state="COMPLETED"))
    came = threading.Event()

    async def wait(_params, stream):
        await asyncio.to_thread(came.wait, 20)
        return await _send(stream, [make_job(job_id=4, state="COMPLETED")])

    def take(params, _stream):
        if not params["data"]:
            came.set()
        return {"open": True}

    controller.answers["wait"], controller.answers["part_input"] = wait, take
    assert sshq("srun", "cat", input="in\n").returncode == 0
    assert controller.params("submit")[0]["description"]["kind"] == "attended"
    assert [(p["number"], p["data"]) for p in controller.params("part_input")] == [(0, "aW4K"), (1, "")]


@pytest.mark.parametrize("words", [["-i", "none"], ["-i", "file"]])
def test_srun_that_is_told_of_its_input_reads_none_of_ours(controller, sshq, words):
    prepare_srun(controller, make_job(job_id=4, state="COMPLETED"))
    assert sshq("srun", *words, "cat", input="in\n").returncode == 0
    assert controller.params("submit")[0]["description"]["kind"] == "command"
    assert not controller.params("part_input")


def test_one_interrupt_asks_and_two_end_the_job(place, controller):
    prepare_srun(controller, make_job(job_id=4))
    ended = threading.Event()

    async def wait(_params, stream):
        await asyncio.to_thread(ended.wait, 20)
        return await _send(stream, [make_job(job_id=4, state="CANCELLED")])

    def cancel(params, _stream):
        if params["signal"] is None:
            ended.set()
        return {"results": []}

    controller.answers["wait"], controller.answers["cancel"] = wait, cancel
    process = place.start("srun", "-n2", "sleep", "60")
    while not controller.params("wait"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "srun: interrupt (one more within 1 sec to abort)\n"
    assert process.stderr.readline() == "srun: StepId=4.0 tasks 0-1: running\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (
        130,
        "srun: sending Ctrl-C to StepId=4.0\nsrun: Job step aborted: Waiting up to 32 seconds for job step to finish.\n",
    )
    assert [p["signal"] for p in controller.params("cancel")] == [2, None]


def test_an_allocation_over_its_limit_is_told_of_and_the_command_runs_on(controller, sshq):
    ended = threading.Event()

    async def follow(_params, stream):
        await stream.items([make_job(job_id=4, started=True)])
        await asyncio.to_thread(ended.wait, 0.3)
        return await _send(stream, [make_job(job_id=4, state="TIMEOUT", started=False)])

    controller.answers["submit"], controller.answers["follow_job"] = {"job_id": 4}, follow
    done = sshq("salloc", "-t1", "sh", "-c", "sleep 1; exit 3")  # without a terminal and without -K nobody signals it
    assert (done.returncode, done.stderr) == (
        3,
        "salloc: Granted job allocation 4\nsalloc: Job 4 has exceeded its time limit and its allocation has been revoked.\n",
    )
    assert not controller.params("finish")
    assert controller.params("submit")[0]["description"]["kind"] == "allocation"


def test_a_place_among_a_crowd_is_waited_for(controller, sshq):
    turned_away = []

    def submit(_params, _stream):
        if len(turned_away) < 2:
            turned_away.append(True)
            raise RefusedError("too many connections to the controller", code="crowded")
        return {"job_id": 9, "notes": []}

    controller.answers["submit"] = submit
    done = sshq("sbatch", "--wrap", "true")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Submitted batch job 9\n", "")
    assert len({params["token"] for params in controller.params("submit")}) == 1
