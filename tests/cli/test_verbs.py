"""scancel, scontrol, squeue, sacct and our own verbs against a controller: what is asked, and what is said of the answer."""

import asyncio
import json
import re
import subprocess
import time

import pytest

from sshq.errors import RefusedError

from .conftest import make_job

DENIED = "Access/permission denied for job 144"


def result(job_id, outcome, message="", task=None):
    return {"job_id": job_id, "array_task_id": task, "outcome": outcome, "message": message, "survivors": []}


@pytest.mark.parametrize(
    "words,results,status,stderr",
    [
        (["5"], [result(5, "cancelled")], 0, ""),
        (["5"], [result(5, "unknown", "Invalid job id specified")], 0, ""),
        (["5"], [result(5, "ended", "Job/step already completing or completed")], 0, ""),
        (["-v", "5"], [result(5, "cancelled")], 0, "scancel: Terminating job 5\n"),
        (
            ["-v", "5"], [result(5, "unknown", "Invalid job id specified")], 0,
            "scancel: Terminating job 5\nscancel: error: Kill job error on job id 5: Invalid job id specified\n",
        ),
        (["5"], [result(5, "denied", "Access/permission denied")], 1,
         "scancel: error: Kill job error on job id 5: Access/permission denied\n"),
        (["-s", "USR1", "5"], [result(5, "refused", "Job is pending execution")], 1,
         "scancel: error: Kill job error on job id 5: Job is pending execution\n"),
        (["5"], [result(5, "cancelled", "n1 cannot be reached now; the cancel is kept")], 0,
         "scancel: n1 cannot be reached now; the cancel is kept\n"),
        (["5"], [result(5, "cancelled") | {"survivors": ["n1:77 (D)"]}], 0,
         "scancel: error: job 5: still alive: n1:77 (D)\n"),
    ],
)  # fmt: skip
def test_scancel_is_as_silent_as_slurms(controller, sshq, words, results, status, stderr):
    controller.answers["cancel"] = {"results": results}
    done = sshq("scancel", *words)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", stderr)


def test_scancel_asks_for_what_was_named(controller, sshq):
    controller.answers["cancel"] = {"results": []}
    sshq("scancel", "-b", "-s", "TERM", "12_[1-3]", "14,15", "-n", "x")
    (params,) = controller.params("cancel")
    assert params["filter"]["refs"] == [[12, [1, 2, 3]], [14, None], [15, None]]
    assert params["filter"]["names"] == ["x"]
    assert (params["signal"], params["batch"], params["full"]) == (15, True, False)


def test_scancel_asks_for_each_job_when_told_to(controller, sshq):
    controller.answers["jobs"] = [make_job(job_id=3), make_job(job_id=4, array_job_id=4, array_tasks="2-3%1")]
    controller.answers["cancel"] = {"results": []}
    done = sshq("scancel", "-i", "--me", input="n\ny\n")
    assert done.stdout.count("[y/n]?") == 2
    assert controller.params("cancel")[0]["filter"] == {"refs": [[4, [2, 3]]]}


@pytest.mark.parametrize(
    "words,method,answer,status,stdout,stderr",
    [
        (["hold", "5"], "hold", result(5, "done"), 0, "", ""),
        (
            ["hold", "5"], "hold", result(5, "unknown", "Invalid job id specified"), 1, "",
            "Invalid job id specified for job 5\nslurm_suspend error: Invalid job id specified\n",
        ),
        (["requeue", "5"], "requeue", result(5, "refused", "Job is pending execution"), 1, "",
         "Job is pending execution for job 5\n"),
        (["suspend", "144"], "suspend", result(144, "denied", DENIED), 1, "", DENIED + "\n"),
        (["-Q", "suspend", "144"], "suspend", result(144, "denied", DENIED), 1, "", ""),
        (["update", "jobid=5", "TimeLimit=20"], "update_job", result(5, "done"), 0, "", ""),
        (["update", "jobid=5", "TimeLimit=20"], "update_job", result(5, "unknown"), 1, "",
         "Invalid job id specified for job 5\n"),
        (["update", "job", "5", "Priority=77"], "update_job", result(5, "done"), 0, "",
         "Changes to job priority are not persistent, change nice instead for job 5\n"),
        (
            ["update", "nodename=nosuch", "state=drain", "reason=x"], "update_node",
            {"name": "nosuch", "outcome": "refused", "message": "Invalid node name specified"}, 1, "",
            "slurm_update error: Invalid node name specified\n",
        ),
        (["update", "nodename=n1", "state=resume"], "update_node", {"name": "n1", "outcome": "done"}, 0, "", ""),
    ],
)  # fmt: skip
def test_scontrol_says_what_slurms_says(controller, sshq, words, method, answer, status, stdout, stderr):
    controller.answers[method] = {"results": [answer]}
    done = sshq("scontrol", *words)
    assert (done.returncode, done.stdout, done.stderr) == (status, stdout, stderr)


def test_scontrol_names_jobs_in_all_of_slurms_ways(controller, sshq):
    controller.answers |= {"release": {"results": []}, "jobs": [make_job(job_id=9, name="three")]}
    sshq("scontrol", "release", "5", "6_2,7_[1-2]", "jobid=8", "jobname=three")
    refs = controller.params("release")[0]["refs"]
    assert refs == [[5, None], [6, [2]], [7, [1, 2]], [8, None], [9, None]]
    assert controller.params("jobs")[0]["filter"]["names"] == ["three"]


def test_a_time_limit_can_grow_by_some_minutes(controller, sshq):
    controller.answers |= {"jobs": [make_job(job_id=5, time_limit_s=600)], "update_job": {"results": [result(5, "done")]}}
    assert sshq("scontrol", "update", "jobid=5", "TimeLimit=+5").returncode == 0
    assert controller.params("update_job")[0]["changes"] == {"time_limit_s": 900}


def test_a_script_is_written_to_stdout_or_a_file(place, controller, sshq):
    controller.answers["script"] = {"script": "#!/bin/sh\necho ü\udcff\n"}
    done = subprocess.run(place.argv("scontrol", "write", "batch_script", "5", "-"), env=place.env, capture_output=True, check=True)
    assert done.stdout == b"#!/bin/sh\necho \xc3\xbc\xff\n"
    assert sshq("scontrol", "write", "batch_script", "5").stdout == "batch script for job 5 written to slurm-5.sh\n"
    assert open(f"{place.work}/slurm-5.sh", "rb").read() == done.stdout
    assert sshq("scontrol", "write", "batch_script", "5", "/no/such/dir/x").returncode == 1


def test_unknown_things_are_answered_as_slurm_does(controller, sshq):
    controller.answers |= {"jobs": [], "info": {"nodes": [], "partitions": []}}
    done = sshq("scontrol", "show", "job", "99")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "slurm_load_jobs error: Invalid job id specified\n")
    done = sshq("scontrol", "show", "node", "nosuch")
    assert (done.returncode, done.stdout, done.stderr) == (1, "Node nosuch not found\n", "")
    done = sshq("scontrol", "show", "partition", "nosuch")
    assert (done.returncode, done.stdout, done.stderr) == (1, "Partition nosuch not found\n", "")
    assert sshq("scontrol", "show", "jobs").stdout == "No jobs in the system\n"


def test_jobs_are_shown_in_blocks_lines_and_json(controller, sshq):
    controller.answers["jobs"] = [make_job(job_id=5, name="x")]
    assert sshq("scontrol", "show", "job", "5").stdout.startswith("JobId=5 JobName=x\n   UserId=anna(1000) ")
    assert sshq("scontrol", "-o", "show", "job", "5").stdout.count("\n") == 1
    assert json.loads(sshq("scontrol", "--json", "show", "job", "5").stdout)["jobs"][0]["job_id"] == 5
    texts = [sshq("scontrol", "show", *words).stdout for words in (["job=5"], ["jobid", "5"])]
    one, other = (re.sub(r"RunTime=\S+", "", text) for text in texts)  # it goes on
    assert one == other


def test_ping_says_up(controller, sshq):
    controller.answers["ping"] = {"version": "0"}
    assert sshq("scontrol", "ping").stdout.endswith(" is UP\n")


def test_reconfigure_shows_what_changed_or_why_not(controller, sshq):
    controller.answers["reload"] = {"diff": ["n3 joins"], "error": None}
    done = sshq("scontrol", "reconfigure")
    assert (done.returncode, done.stdout, done.stderr) == (0, "n3 joins\n", "")
    controller.answers["reload"] = {"diff": [], "error": "hosts.yaml:3:1: bad"}
    done = sshq("scontrol", "reconfigure")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "slurm_reconfigure error: hosts.yaml:3:1: bad\n")


def test_squeue_lists_what_the_controller_sends(controller, sshq):
    controller.answers["jobs"] = [make_job(job_id=n) for n in (2, 1)]
    done = sshq("squeue", "-h", "-o", "%i %T")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 RUNNING\n2 RUNNING\n", "")
    assert [job["job_id"] for job in json.loads(sshq("squeue", "--json").stdout)["jobs"]] == [2, 1]


def test_one_unknown_id_is_an_error_and_two_are_none(controller, sshq):
    controller.answers["jobs"] = []
    done = sshq("squeue", "-j", "99")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "slurm_load_jobs error: Invalid job id specified\n")
    done = sshq("squeue", "-h", "-j", "98,99")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_squeue_repeats_until_it_is_interrupted(place, controller):
    import signal

    controller.answers["jobs"] = []
    process = place.start("squeue", "-i", "1")
    while len(controller.params("jobs")) < 2:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (130, "")


def test_sacct_lists_history(controller, sshq):
    now = time.time()
    ended = make_job(job_id=3, state="COMPLETED", exit_code=0, submit_at=now, start_at=now, end_at=now)
    controller.answers["history"] = [ended]
    assert sshq("sacct", "-n", "-P", "-X", "-o", "jobid,state").stdout == "3|COMPLETED\n"
    assert "meta" in json.loads(sshq("sacct", "--json").stdout)


def test_a_refusal_keeps_its_detail_and_hint(controller, sshq):
    controller.answers["jobs"] = RefusedError("Access/permission denied", code="denied", detail=("why",), hint="be root")
    done = sshq("squeue")
    assert (done.returncode, done.stderr) == (1, "squeue: error: Access/permission denied\n    why\n    hint: be root\n")


def test_a_bug_of_the_controller_is_status_70(controller, sshq):
    controller.answers["status"] = ZeroDivisionError()
    done = sshq("status")
    assert (done.returncode, done.stdout) == (70, "")
    assert done.stderr == "sshq: error: sshq's controller hit a bug of its own\n    hint: sshq logs --controller\n"


def test_another_protocol_version_is_named(place, sshq):
    import socket
    import threading

    from sshq.wire.codec import frame_json

    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{place.sshq_home}/sock")
    listening.listen()

    def serve():
        connection, _ = listening.accept()
        connection.recv(65536)
        fault = {"code": "version", "message": "the controller speaks 7", "detail": [], "hint": "update", "exit": 1}
        connection.sendall(frame_json({"id": None, "ok": False, "error": fault}))
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    done = sshq("squeue")
    thread.join()
    listening.close()
    assert (done.returncode, done.stderr) == (1, "squeue: error: the controller speaks 7\n    hint: update\n")


def test_output_nobody_reads_is_no_error(place, controller):
    controller.answers["jobs"] = [make_job(job_id=n) for n in range(1, 3000)]
    process = place.start("squeue")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(20) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_full_disk_is_said(place, controller):
    controller.answers["jobs"] = [make_job()]
    with open("/dev/full", "w") as full:
        done = subprocess.run(place.argv("squeue"), env=place.env, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "squeue: error: write error: No space left on device\n")


def test_logs_copies_bytes_as_they_are(place, controller):
    async def logs(params, stream):
        await stream.data(bytes(range(256))[params["offset"] :])
        return {"offset": 256, "state": "RUNNING"}

    controller.answers["logs"] = logs
    done = subprocess.run(place.argv("logs", "12_4", "-e"), env=place.env, capture_output=True, check=True)
    assert done.stdout == bytes(range(256))
    (params,) = controller.params("logs")
    assert (params["ref"], params["stream"], params["follow"]) == ([12, 4], "err", False)


def test_following_goes_on_where_it_stopped(controller, sshq):
    async def logs(params, stream):
        if params["offset"] == 0:
            await stream.data(b"one\n")
            stream._channel._writer.close()
            await asyncio.sleep(60)
        await stream.data(b"two\n")
        return {"offset": 8, "state": "COMPLETED"}

    controller.answers["logs"] = logs
    done = sshq("logs", "-f", "3")
    assert (done.returncode, done.stdout, done.stderr) == (0, "one\ntwo\n", "")
    assert controller.params("logs")[1]["offset"] == 4


def test_why_shows_each_host(controller, sshq):
    controller.answers["why"] = {
        "job": make_job(job_id=5, name="train", state="PENDING"), "summary": "Resources", "expected_start_at": None,
        "nodes": [{"name": "gpu01", "verdict": "busy", "detail": "4 GPUs asked, 1 free"}, {"name": "n2", "verdict": "draining"}],
    }  # fmt: skip
    assert sshq("why", "5").stdout == (
        "Job 5 (train) is PENDING: Resources\n    gpu01  busy      4 GPUs asked, 1 free\n    n2     draining\n"
    )
    assert json.loads(sshq("why", "--json", "5").stdout)["summary"] == "Resources"


def test_wait_knows_tasks_unknown_jobs_and_jobs_that_left_the_queue(controller, sshq):
    tasks = [make_job(job_id=10 + n, array_job_id=12, array_task_id=n, state="FAILED", exit_code=n) for n in (1, 2)]

    async def wait(params, stream):
        await stream.items(tasks)
        return {"unknown_ids": [job_id for job_id in params["ids"] if job_id != 12]}

    controller.answers["wait"] = wait
    controller.answers["history"] = lambda params, stream: (
        [make_job(job_id=7, state="COMPLETED")] if params["filter"]["refs"] == [[7, None]] else []
    )
    done = sshq("wait", "12_1")
    assert (done.returncode, done.stdout) == (1, "12_1 FAILED 1:0\n")
    done = sshq("wait", "12", "7", "99")
    assert (done.returncode, done.stdout) == (2, "12_1 FAILED 1:0\n12_2 FAILED 2:0\n7 COMPLETED 0:0\n")
    assert done.stderr == "sshq: error: Invalid job id specified: 99\n"
    done = sshq("wait", "12_9", "12_1", "10_1")  # no tasks of it, and none of what is no array
    assert (done.returncode, done.stdout) == (1, "12_1 FAILED 1:0\n")
    assert done.stderr == "sshq: error: Invalid job id specified: 12_9\nsshq: error: Invalid job id specified: 10_1\n"


def test_waiting_for_a_task_that_left_the_queue_tells_of_that_alone(controller, sshq):
    controller.answers["wait"] = lambda params, _stream: {"unknown_ids": params["ids"]}
    ended = [make_job(job_id=10 + n, array_job_id=12, array_task_id=n, state="FAILED", exit_code=n) for n in (1, 2)]
    never = make_job(job_id=12, array_job_id=12, array_task_id=None, array_tasks="3-5", state="CANCELLED", start_at=None)
    controller.answers["history"] = lambda _params, _stream: [*ended, never]
    done = sshq("wait", "12_1")
    assert (done.returncode, done.stdout, done.stderr) == (1, "12_1 FAILED 1:0\n", "")
    done = sshq("wait", "12_[4-6]")
    assert (done.returncode, done.stdout, done.stderr) == (1, "12 CANCELLED 0:0\n", "sshq: error: Invalid job id specified: 12_6\n")


def test_doctor_says_what_is_wrong_and_what_to_do(controller, sshq):
    checks = [
        {"check": "login", "verdict": "ok", "detail": "as anna", "hint": None},
        {"check": "host key", "verdict": "fail", "detail": "it changed\nexpected A", "hint": "sshq hosts trust n2"},
    ]
    controller.answers["doctor"] = {"hosts": [{"name": "n1", "ok": True, "checks": checks[:1]}, {"name": "n2", "ok": False, "checks": checks}]}
    done = sshq("doctor")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == (
        "n1: usable\nn2: cannot be used\n    FAIL host key: it changed\n         expected A\n         hint: sshq hosts trust n2\n"
    )
    done = sshq("doctor", "n1", "n3")
    assert (done.returncode, done.stderr) == (1, "sshq: error: no such host in the inventory: n3\n    hint: sshq inventory\n")
    assert controller.params("doctor")[1]["names"] == ["n1", "n3"]


def test_purge_means_all_unless_told_which(controller, sshq):
    controller.answers["purge"] = {"purged": 1}
    assert sshq("purge").stdout == "purged 1 ended job\n"
    sshq("purge", "--older-than", "2h")
    sshq("purge", "5", "6_1")
    asked = [(p["older_than_s"], p["refs"]) for p in controller.params("purge")]
    assert asked == [(0, None), (7200, None), (None, [[5, None], [6, [1]]])]


def test_a_second_up_names_the_holder(place, controller, sshq):
    controller.answers["status"] = {"pid": 4711}
    done = sshq("up")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"sshq: error: a controller is already running (pid 4711)\n    it listens on {place.sshq_home}/sock\n    hint: sshq status\n"
    )


def test_hosts_retry_names_hosts_it_does_not_know(controller, sshq):
    controller.answers["hosts_retry"] = {"results": [{"name": "n1", "outcome": "retrying"}, {"name": "n9", "outcome": "unknown"}]}
    done = sshq("hosts", "retry", "n[1,9]")
    assert (done.returncode, done.stderr) == (1, "sshq: error: no such host in the inventory: n9\n    hint: sshq inventory\n")
    assert done.stdout.startswith("n1: retrying\n")
    assert controller.params("hosts_retry") == [{"names": ["n1", "n9"]}]
