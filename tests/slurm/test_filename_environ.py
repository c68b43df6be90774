"""Names of files, and environments: as recorded."""

import pytest

from sshq.slurm.environ import filter_submitted_environment, fold_counts, job_environment
from sshq.slurm.filename import expand_filename

from .recordings import load, make_job

PLAIN = {"job_id": 22372, "array_job_id": None, "array_task_id": None, "user": "recuser", "name": "nm", "node": "vm"}
TASK = PLAIN | {"job_id": 22380, "array_job_id": 22373, "array_task_id": 3}


@pytest.mark.parametrize(
    ("pattern", "facts", "name"),
    [
        ("o_%j_%x_%u_%%_%N_%n_%t_%5j_%J_%s.txt", PLAIN, "o_22372_nm_recuser_%_vm_0_0_22372_22372_batch.txt"),
        ("a_%A_%a_%j_%4a.txt", TASK, "a_22373_3_22380_0003.txt"),
        ("plain_%A_%a_%j.txt", PLAIN, "plain_22372_4294967294_22372.txt"),
        ("bad_%q_%z.txt", PLAIN, "bad_%q_%z.txt"),
        ("back\\\\%j.txt", PLAIN, "back\\%j.txt"),
        ("\\%j", PLAIN, "%j"),
        ("end%", PLAIN, "end%"),
        ("end%4", PLAIN, "end%4"),
        ("%30j", PLAIN, "0000022372"),
        ("slurm-%A_%a.out", TASK, "slurm-22373_3.out"),
    ],
)
def test_patterns_expand_as_recorded(pattern, facts, name):
    assert expand_filename(pattern, facts) == name


# What the recording shows of the node, the controller or the login, and not of the job; and what is ours.
NOT_OURS = {"SLURM_CONF", "SLURM_TASK_PID", "SLURM_WORKING_CLUSTER", "HOME", "SHELL", "TMPDIR", "USER", "MARK_FROM_SUBMITTER"}
OURS = {"SSHQ_ATTEMPT", "SSHQ_SLOT"}
JOBS = {
    "env-plain": make_job(job_id=22385, name="env.sh", nodes=["node3"], state="RUNNING"),
    "env-multicpu": make_job(
        job_id=22387, name="multi", nodes=["node3", "node4"], num_tasks=4, ntasks_given=True, cpus_per_task=2,
        cpus_per_task_given=True, cpus=8, memory_mib=200, memory_per_cpu_mib=None,
    ) | {"cpus_per_node": [6, 2]},
    "env-array": make_job(job_id=22390, array_job_id=22388, array_task_id=4, name="env.sh", nodes=["node3"])
    | {"array_task_count": 3, "array_task_min": 2, "array_task_max": 6, "array_task_step": 2},
    "env-ntasks-per-node": make_job(
        job_id=22392, name="env.sh", nodes=["node3", "node4"], num_tasks=6, cpus=6, memory_per_cpu_mib=50,
    ) | {"ntasks_per_node": 3},
}  # fmt: skip


@pytest.mark.parametrize("name", list(JOBS))
def test_a_job_sees_the_variables_slurm_sets(name):
    recorded = dict(line.split("=", 1) for line in load("environment")[name]["stdout"].splitlines())
    expected = {key: value for key, value in recorded.items() if key not in NOT_OURS}
    facts = JOBS[name] | {"cluster": "lab2", "submit_host": "vm", "user": "recuser"}
    made = job_environment(facts)
    assert {key: value for key, value in made.items() if key not in OURS} == expected
    assert set(made) >= OURS


def test_restarts_and_export_are_told_only_if_there_are_any():
    made = job_environment(make_job(nodes=["n"], restarts=2, attempt=3) | {"export": "NONE", "slot": 4})
    assert (made["SLURM_RESTART_COUNT"], made["SLURM_EXPORT_ENV"]) == ("2", "NONE")
    assert (made["SSHQ_ATTEMPT"], made["SSHQ_SLOT"]) == ("3", "4")
    assert not {"SLURM_RESTART_COUNT", "SLURM_EXPORT_ENV"} & set(job_environment(make_job(nodes=["n"])))


MINE = {
    "MARK": "hello", "EXTRA": "1", "HOME": "/home/x", "USER": "x", "SHELL": "/bin/zsh", "LOGNAME": "x", "SSH_AUTH_SOCK": "/s",
    "DBUS_SESSION": "b", "XDG_RUNTIME_DIR": "/r", "DISPLAY": ":0", "XAUTHORITY": "a", "KRB5CCNAME": "k", "TMPDIR": "/t",
    "SSHQ_HOME": "/h", "SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_TIME_FORMAT": "relative", "PATH": "/bin",
}  # fmt: skip


@pytest.mark.parametrize(
    ("export", "names"),
    [
        (None, {"MARK", "EXTRA", "PATH", "SLURM_TIME_FORMAT"}),
        ("ALL", {"MARK", "EXTRA", "PATH", "SLURM_TIME_FORMAT"}),
        ("NONE", set()),
        ("NIL", set()),
        ("EXTRA,NEWV=x", {"EXTRA", "NEWV", "SLURM_TIME_FORMAT"}),
        ("ALL,NEWV=a b", {"MARK", "EXTRA", "PATH", "SLURM_TIME_FORMAT", "NEWV"}),
        ("TMPDIR=/mine", {"TMPDIR", "SLURM_TIME_FORMAT"}),
        ("HOME=/mine,SSHQ_HOME=/h", {"SLURM_TIME_FORMAT"}),
    ],
)
def test_export_chooses_what_travels(export, names):
    assert set(filter_submitted_environment(MINE, export)) == names


def test_commas_within_quotes_stay_in_the_value():
    assert filter_submitted_environment({}, "A='1,2',B=3") == {"A": "1,2", "B": "3"}


def test_the_environment_beats_a_value_beside_all():
    assert filter_submitted_environment({"EDITOR": "vi"}, "ALL,EDITOR=ed") == {"EDITOR": "vi"}


@pytest.mark.parametrize(
    ("counts", "nodes", "text"), [([6, 2], 2, "6,2"), ([3], 2, "3(x2)"), ([1], 1, "1"), ([2, 2, 1], 3, "2(x2),1")]
)
def test_counts_by_node_fold_as_in_slurm(counts, nodes, text):
    assert fold_counts(counts, nodes) == text
