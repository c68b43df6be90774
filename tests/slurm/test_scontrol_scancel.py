"""scontrol's blocks and words, scancel's choices and silences: as recorded."""

import re
import shlex

import pytest

from sshq.errors import OptionError
from sshq.slurm.scancel import describe_result, exit_code_of, read_scancel_options
from sshq.slurm.scontrol import find_entity, find_verb, parse_scontrol, parse_update
from sshq.slurm.show import render_job, render_node, render_partition
from sshq.slurm.show_config import list_config, render_config

from .recordings import JOBS, NODES, NOW, PARTITIONS, RUNNER, UID, at, load, make_job, make_node

SHOWN = load("scontrol")
CANCELLED = load("scancel")


def blur(text):
    """Return a block without what only the recording's cluster knew: session ids, evaluations, versions."""
    text = re.sub(r"Sid=localhost:\d+", "Sid=localhost:0", text)
    text = re.sub(r"LastSchedEval=\S+", "LastSchedEval=", text)
    text = re.sub(r"NodeHostName=\S+ Port=\d+ Version=\S+", "NodeHostName=", text)
    return re.sub(r"OS=[^\n=]* (\n|RealMemory)", r"OS= \1", text)


HELD = make_job(
    job_id=22412, reason="JobHeldUser", submit_at=at("2026-11-22T17:08:51"), eligible_at=None,
    std_out="/home/recuser/rec/slurm-22412.out",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "job", "seconds"),
    [("scontrol-job-running", RUNNER, 0), ("scontrol-job-pending", JOBS[2], 0), ("scontrol-job-array", JOBS[4], 0),
     ("scontrol-held-job", HELD, 0), ("scontrol-show-job-o", RUNNER, 7)],
)  # fmt: skip
def test_jobs_are_shown_as_recorded(name, job, seconds):
    shown = render_job(job, now=NOW + seconds, oneline=name.endswith("-o"))
    # Slurm tells a pending job's nodes as a range (NumNodes=4-4); jobs of sshq have one.
    expected = SHOWN[name]["stdout"].replace("NumNodes=4-4", "NumNodes=4")
    assert blur(shown) == blur(expected)


def test_details_name_the_node_and_the_memory():
    assert "\n     Nodes=node3 CPU_IDs=0-1 Mem=200 GRES=\n" in render_job(RUNNER, now=NOW, details=True)


def test_what_sshq_knows_beyond_slurm_stands_behind():
    shown = render_job(RUNNER | {"note": "node3 unreachable since 14:02"}, now=NOW)
    assert shown.endswith("\n   Power=\n   Note=node3 unreachable since 14:02\n   \n\n")


@pytest.mark.parametrize(("name", "node"), [("scontrol-show-node", NODES[0]), ("scontrol-show-node-o", NODES[2])])
def test_nodes_are_shown_as_recorded(name, node):
    if name.endswith("-o"):
        node = node | {"boot_at": at("2026-11-22T15:52:31"), "last_busy_at": at("2026-11-22T17:09:46")}
    shown = render_node(node, oneline=name.endswith("-o"))
    assert blur(shown) == blur(SHOWN[name]["stdout"])


def test_a_nodes_flags_and_reason_are_shown():
    node = make_node("n1", planned=False, drain=True, reason="bad disk", reason_user="root", reason_at=NOW)
    shown = render_node(node)
    assert "State=IDLE+DRAIN " in shown
    assert shown.endswith("\n   Reason=bad disk [root@2026-11-22T17:09:54]\n\n")
    gone = make_node("n1", planned=False, unreachable=True, note="no route to host")
    assert "State=IDLE+NOT_RESPONDING " in render_node(gone)
    assert "Reason=no route to host [sshq@" in render_node(gone)


@pytest.mark.parametrize(
    ("name", "part"), [("scontrol-show-partition", PARTITIONS[1]), ("scontrol-show-partition-o", PARTITIONS[0])]
)
def test_partitions_are_shown_as_recorded(name, part):
    assert render_partition(part, NODES, oneline=name.endswith("-o")) == SHOWN[name]["stdout"]


def test_the_configuration_stands_in_two_columns():
    pairs = list_config({"uptime_s": 60, "settings": {"kill_wait_s": 5}}, now=NOW, host="head", user="me(1)")
    lines = render_config(pairs, [("sshq.socket", "/s")], NOW, "head").splitlines()
    assert lines[0] == "Configuration data as of 2026-11-22T17:09:54"
    assert {"KillWait                = 5 sec", "BOOT_TIME               = 2026-11-22T17:08:54"} <= set(lines)
    keys = [key for key, _ in pairs if key.isascii() and key.replace("_", "").isalpha()]
    recorded = SHOWN["scontrol-config-keys"]["stdout"].replace("DefMemPerCPU", "DefMemPerNode").split()
    assert ["Configuration", *keys] == recorded


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: find_verb("frobnicate"), "scontrol-bad-verb"),
        (lambda: find_entity("nosuch"), "scontrol-show-bad"),
        (lambda: parse_update(["jobid=5", "NoSuchKey=1"], NOW), "sc-update-unknown-key"),
        (lambda: parse_update(["jobid=5", "TimeLimit=abc"], NOW), "sc-update-bad-time"),
    ],
)
def test_bad_words_are_refused_as_recorded(call, name):
    with pytest.raises(OptionError) as caught:
        call()
    assert caught.value.render("scontrol").startswith(SHOWN[name]["stderr"])
    assert caught.value.exit_code == SHOWN[name]["exit"]


@pytest.mark.parametrize(
    ("words", "entity", "names", "changes"),
    [
        (["JobId=5", "TimeLimit=20"], "job", ["5"], {"time_limit_s": 1200}),
        (["JobId=5", "TimeLimit=+5"], "job", ["5"], {"time_limit_s": {"add_s": 300}}),
        (["JobId=5", "TimeLimit=-65"], "job", ["5"], {"time_limit_s": {"add_s": -3900}}),
        (["JobId=5", "TimeLimit=-1"], "job", ["5"], {"time_limit_s": -1}),
        (["job", "5", "Priority=77"], "job", ["5"], {"priority": 77}),
        (["jobid=5_[1-3],6", "nice=20"], "job", ["5_[1-3]", "6"], {"nice": 20}),
        (["jobid=5", "Dependency="], "job", ["5"], {"dependency": ""}),
        (["jobid=5", "StartTime=now+2hours"], "job", ["5"], {"begin_at": NOW + 7200}),
        (["jobid=5", "jobname=a b", "Comment=hi"], "job", ["5"], {"name": "a b", "comment": "hi"}),
        (["nodename=n[1-2]", "state=drain", "reason=bad disk"], "node", ["n1", "n2"], {"state": "drain", "reason": "bad disk"}),
        (["nodename=n1", "state=resume"], "node", ["n1"], {"state": "resume"}),
        (["partitionname=p", "state=down"], "partition", ["p"], {"state": "DOWN"}),
    ],
)
def test_updates_are_read(words, entity, names, changes):
    update = parse_update(words, NOW)
    assert (update.entity, update.names, update.changes) == (entity, names, changes)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nodename=n1", "state=drain"], "You must specify a reason when DOWNING or DRAINING a node. Request denied\n"),
        (["nodename=n1", "state=nosuch"], "Invalid input: state=nosuch\nRequest aborted\nValid states are: NoResp DRAIN FAIL"),
    ],
)
def test_operators_are_refused_as_recorded(words, text):
    with pytest.raises(OptionError) as caught:
        parse_update(words, NOW)
    assert caught.value.render("scontrol").startswith(text)


def test_options_of_scontrol_stand_anywhere():
    parsed = parse_scontrol(["show", "job", "-o", "5", "--json"], {})
    assert parsed.arguments == ["show", "job", "5"]
    assert parsed.has("oneline")
    assert parsed.has("json")
    assert find_entity("job") == "jobs"
    assert find_verb("upd") == "update"


def read(argv, environ=None):
    return read_scancel_options(argv, environ or {}, me="recuser", lookup_uid={"recuser": UID}.get)


@pytest.mark.parametrize("name", ["scancel-text", "scancel-none", "scancel-signal-bad", "scancel-bad-state",
                                  "scancel-user-unknown", "scancel-unknown-option"])  # fmt: skip
def test_scancel_refuses_as_recorded(name):
    entry = CANCELLED[name]
    with pytest.raises(OptionError) as caught:
        read(shlex.split(entry["cmd"].replace("<J7>", "7"))[1:])
    assert caught.value.render("scancel").startswith(entry["stderr"])
    assert caught.value.exit_code == entry["exit"]


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("scancel-verbose-unknown", {"job_id": 99999999, "outcome": "unknown"}),
        ("scancel-finished-verbose", {"job_id": 22494, "outcome": "ended"}),
        ("scancel-verbose", {"job_id": 22500, "array_task_id": 1, "outcome": "cancelled"}),
    ],
)
def test_scancel_is_silent_unless_verbose(name, result):
    entry = CANCELLED[name]
    assert "".join(f"{line}\n" for line in describe_result(result, read(["-v", "5"]))) == entry["stderr"]
    assert describe_result(result, read(["5"])) == []
    assert exit_code_of([result]) == entry["exit"] == 0


def test_a_refusal_and_survivors_are_told_always():
    denied = {"job_id": 5, "outcome": "denied", "message": "Access/permission denied"}
    assert describe_result(denied, read(["5"])) == ["scancel: error: Kill job error on job id 5: Access/permission denied"]
    assert exit_code_of([denied]) == 1
    left = {"job_id": 5, "outcome": "cancelled", "survivors": ["node3 pid 7"]}
    assert describe_result(left, read(["5"])) == ["scancel: error: job 5: still alive: node3 pid 7"]


@pytest.mark.parametrize(
    ("argv", "key", "value"),
    [
        (["1", "2_3", "4,5"], "refs", [[1, None], [2, [3]], [4, None], [5, None]]),
        (["7_[4-6]"], "refs", [[7, [4, 5, 6]]]),
        (["--me"], "users", ["recuser"]),
        (["-u", "recuser"], "users", ["recuser"]),
        (["-t", "PD", "-u", "recuser"], "states", ["PENDING"]),
        (["-n", "sx7"], "names", ["sx7"]),
        (["-p", "short"], "partitions", ["short"]),
        (["-w", "n[1-2]"], "nodes", ["n1", "n2"]),
    ],
)
def test_scancel_chooses(argv, key, value):
    assert read(argv).filter[key] == value


def test_scancels_signals_have_names_and_numbers():
    assert read(["-s", "USR1", "5"]).signal == 10
    assert read(["--signal=SIGTERM", "5"]).signal == 15
    assert read(["-s", "9", "5"]).signal == 9
    assert read(["5"]).signal is None
