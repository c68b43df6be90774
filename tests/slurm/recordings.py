"""What real Slurm printed, and the views under which sshq must print the same.

The recording's cluster: node1 and node2 (fast, two GPUs), node3 and node4 (slow), 8 CPUs each; partitions debug (the
default), short and closed.  Its five jobs: one running, one waiting for all nodes, the next in line, a held one, and
an array whose time has not come.
"""

import calendar
from pathlib import Path

import yaml

DATA = Path(__file__).parent / "data"
UID = 1002


def load(name):
    """Return the recordings of a file, by id."""
    return {entry["id"]: entry for entry in yaml.safe_load((DATA / f"{name}.yaml").read_text())}


def at(text):
    """Return the time of a clock in UTC, which is the zone of the tests."""
    day, clock = text.split("T")
    year, month, date = map(int, day.split("-"))
    return float(calendar.timegm((year, month, date, *map(int, clock.split(":")))))


NOW = at("2026-11-22T17:09:54")


def make_job(**changes):
    job = {
        "job_id": 1, "array_job_id": None, "array_task_id": None, "array_tasks": None, "name": "wrap", "user": "recuser",
        "uid": UID, "group": "recuser", "gid": UID, "partition": "debug", "state": "PENDING", "completing": False,
        "reason": "None", "kind": "script", "priority": 0, "nice": 0, "held": None, "nodes": [], "batch_host": None,
        "req_nodes": [], "exc_nodes": [], "features": None, "num_nodes": 1, "num_tasks": 1, "ntasks_given": False,
        "cpus_per_task": 1, "cpus_per_task_given": False, "cpus": 1, "memory_mib": None, "memory_per_cpu_mib": 100,
        "time_limit_s": None, "begin_at": None, "deadline_at": None, "submit_at": at("2026-11-22T17:09:46"),
        "eligible_at": at("2026-11-22T17:09:46"), "start_at": None, "end_at": None, "exit_code": None,
        "exit_signal": None, "restarts": 0, "requeue": True, "retries": 0, "attempt": 0, "dependency": None,
        "work_dir": "/home/recuser/rec", "command": "", "std_out": "/dev/null", "std_err": None, "std_in": None,
        "open_mode": None, "comment": None, "account": "lab", "qos": None, "licenses": None, "submit_host": "localhost",
        "exclusive": False, "note": None,
    }  # fmt: skip
    return job | changes


RUNNER = make_job(
    job_id=22483, name="runner", state="RUNNING", cpus=2, cpus_per_task=2, cpus_per_task_given=True, nodes=["node3"],
    batch_host="node3", time_limit_s=600, start_at=at("2026-11-22T17:09:48"), end_at=at("2026-11-22T17:19:48"),
    priority=4294896298, attempt=1,
)  # fmt: skip
JOBS = [
    RUNNER,
    make_job(job_id=22484, name="filler", reason="Resources", num_nodes=4, num_tasks=4, cpus=4, exclusive=True,
             time_limit_s=3600, priority=4294896297),
    make_job(job_id=22485, name="next-in-line", reason="Priority", num_nodes=4, num_tasks=4, cpus=4, exclusive=True,
             time_limit_s=172800, priority=4294896296, comment="my comment"),
    make_job(job_id=22486, name="held", reason="JobHeldUser", held="user",
             std_out="/home/recuser/rec/slurm-22486.out"),
    make_job(job_id=22487, array_job_id=22487, array_tasks="0-5%2", name="arr", reason="BeginTime",
             priority=4294896295, begin_at=at("2026-11-22T19:09:46"), eligible_at=at("2026-11-22T19:09:46"),
             std_out="/home/recuser/rec/slurm-22487_4294967294.out"),
]  # fmt: skip


def make_node(name, **changes):
    fast = name in ("node1", "node2")
    node = {
        "name": name, "state": "IDLE", "drain": False, "unreachable": False, "planned": True, "reason": None,
        "reason_user": None, "reason_uid": None, "reason_at": None, "note": None, "since_at": at("2026-11-22T16:59:55"),
        "cpus": 8, "cpus_alloc": 0, "slots": 8, "slots_used": 0, "memory_mib": 4000, "memory_alloc_mib": 0,
        "memory_free_mib": 20931, "load": 1.95, "features": ["fast", "gpu"] if fast else ["slow"],
        "partitions": ["debug", "short"] if fast else ["debug"], "address": "127.0.0.1", "port": 22, "os": "Linux",
        "kernel": "6.18", "arch": "x86_64", "boot_at": at("2026-11-22T15:52:32"),
        "last_busy_at": at("2026-11-22T17:09:04"), "weight": 10 if fast else 1, "sockets": 8, "cores": 1, "threads": 1,
        "tmp_disk_mib": 1000, "gres": "gpu:2" if fast else "", "jobs": [],
    }  # fmt: skip
    return node | changes


NODES = [
    make_node("node1", load=1.95),
    make_node("node2", load=1.41, memory_free_mib=21522),
    make_node("node3", planned=False, state="MIXED", cpus_alloc=2, memory_alloc_mib=200, load=1.08, memory_free_mib=21741),
    make_node("node4", partitions=["debug", "closed"]),
]


def make_partition(name, nodes, **changes):
    partition = {
        "name": name, "default": name == "debug", "nodes": nodes, "max_time_s": None, "default_time_s": None,
        "state": "UP", "cpus": 8 * len(nodes), "priority_tier": 1, "hidden": False,
    }  # fmt: skip
    return partition | changes


PARTITIONS = [
    make_partition("debug", ["node1", "node2", "node3", "node4"]),
    make_partition("short", ["node1", "node2"], max_time_s=1800),
    make_partition("closed", ["node4"], max_time_s=3600, state="DOWN"),
]


def print_lines(output):
    """Return an Output as stdout and stderr."""
    lines = "".join(f"{line}\n" for line in output.lines)
    return lines, "".join(f"{line}\n" for line in output.messages)
