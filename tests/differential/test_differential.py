"""Every recorded invocation against sshq: same, or a difference that is allowed for a reason."""

import shutil
import tempfile
from collections.abc import Iterator

import pytest

import bed as beds

from .replay import Allowed, Replayer, group_entries, load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

GROUPS = group_entries()
FIRST_JOB = 1000  # ids of one digit would be taken for anything


@pytest.fixture(scope="module")
def replayer() -> Iterator[Replayer]:
    """The recording's cluster: four nodes of 8 CPUs, partitions debug, short and closed."""
    reason = beds.why_no_sshd()
    if reason:
        pytest.skip(reason)
    with beds.LoopbackBed(4) as made, beds.Instance() as instance:
        for number, host in enumerate(made.hosts, 1):
            host.name = f"node{number}"
        fast, slow = {"sshq_features": ["fast", "gpu"], "sshq_weight": 10}, {"sshq_features": ["slow"]}
        instance.write_config("kill_wait: 5s\narray_size_max: 20001\nfinished_keep: 5m\njobs_max: 200000\n")
        instance.use(
            made.hosts,
            groups={
                "debug": (["node1", "node2", "node3", "node4"], {"sshq_default": True}),
                "short": (["node1", "node2"], {"sshq_max_time": "30:00"}),
                "closed": (["node4"], {"sshq_max_time": "1:00:00", "sshq_state": "DOWN"}),
            },
            host_vars={"node1": fast, "node2": fast, "node3": slow, "node4": slow},
            sshq_cpus=8, sshq_slots=8, sshq_memory="4000M", sshq_hidden=True,
        )  # fmt: skip
        instance.env |= {"TZ": "UTC"}
        instance.up()
        instance.ready()
        shims = f"{instance.dir}/shims"
        instance.out("shims", shims)
        many = instance.submit("-H", "-a", f"0-{FIRST_JOB}", "--wrap", "true")
        instance.out("scontrol", "hold", f"{many}_[0-{FIRST_JOB - 1}]")  # each task that is named gets an id of its own
        instance.out("scancel", str(many))
        work = tempfile.mkdtemp(prefix="drt-", dir="/tmp")  # as long as the recording's: some columns are cut within it
        env = instance.env | {
            "PATH": f"{shims}:{instance.env['PATH']}", "LC_ALL": "C.UTF-8", "PWD": work,
            "MARK_FROM_SUBMITTER": "hello", "SBATCH_ACCOUNT": "lab", "SBATCH_MEM_PER_CPU": "100",
        }  # fmt: skip
        yield Replayer(env, work, instance.env["USER"])
        shutil.rmtree(work)


@pytest.mark.parametrize("group", GROUPS)
def test_commands_answer_as_slurm_did(replayer, group):
    different = [text for entry in GROUPS[group] if (text := replayer.replay(entry))]
    assert not different, f"{len(different)} of {len(GROUPS[group])}:\n\n" + "\n\n".join(different)


def test_what_is_allowed_is_recorded_and_is_no_exit_code():
    names = {entry["id"] for entries in GROUPS.values() for entry in entries if "id" in entry}
    assert set(Allowed().reasons) <= names
    for rule in load("allowed")["entries"]:
        assert rule["reason"]
        # Who runs an sshq is its operator: what Slurm denied the recording's user it does for him.
        assert "exit" not in rule.get("parts", "") or rule["reason"].startswith(("the caller is the operator", "a later release"))
