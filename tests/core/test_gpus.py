"""GPUs in the core: what a request asks, which ones it gets, and that no two jobs ever share one."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenario import Scenario

from sshq.core import events as ev
from sshq.core.gpus import Gpu, GpuLimit, GpuUse, fold_indices, parse_gpus, parse_gres, pick_gpus, type_word, usable_gpus
from sshq.core.model import NodeFacts
from sshq.core.schedule import why_blocked
from sshq.errors import RefusedError


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100"), ("A100-PCIE-40GB", "a100"), ("NVIDIA H100 80GB HBM3", "h100"), ("Tesla T4", "t4"),
        ("Tesla V100-SXM2-32GB", "v100"), ("NVIDIA GeForce RTX 3090", "rtx3090"), ("GeForce RTX 2080 Ti", "rtx2080ti"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "rtx4070tisuper"), ("NVIDIA RTX A6000", "a6000"), ("NVIDIA L40S", "l40s"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx6000ada"), ("Quadro RTX 8000", "rtx8000"), ("Quadro P2000", "p2000"),
        ("TITAN V", "titanv"), ("NVIDIA TITAN RTX", "titanrtx"), ("GeForce GTX 1080", "gtx1080"), ("AMD Instinct MI210", "mi210"),
        ("Instinct MI250X / MI250", "mi250x"), ("AMD Radeon RX 7900 XTX", "rx7900xtx"), ("Radeon Pro W6800", "w6800"),
        ("NVIDIA GB200", "gb200"), ("Orin (nvgpu)", "orin"), ("NVIDIA A40-48Q", "a40"), ("0x738c", ""), ("", ""),
    ],
)  # fmt: skip
def test_a_model_has_the_short_name_people_use(name, word) -> None:
    assert type_word(name) == word


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("gpu", (("", 1),)), ("gpu:2", (("", 2),)), ("gpu:a100", (("a100", 1),)), ("gpu:A100:2", (("a100", 2),)), ("none", ()),
        ("NONE", ()), ("gpu:0", ()), ("gpu:a100:1,gpu:v100:2", (("a100", 1), ("v100", 2))), ("gpu:1,gpu:1", (("", 2),)),
        ("gres:gpu:3", (("", 3),)), ("gpu:rtx3090:1", (("rtx3090", 1),)),
    ],
)  # fmt: skip
def test_gres_as_slurm_writes_it(text, wanted) -> None:
    assert parse_gres(text) == wanted


@pytest.mark.parametrize("text", ["nosuch:1", "gpu:a100:x", "gpu:-1", "gpu:", "gpu:a:b:1", "gpu:99999999", "mps:10", "gpu,", "gpu:1;id"])
def test_another_gres_is_refused(text) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_gres(text)


@pytest.mark.parametrize(("text", "wanted"), [("2", (("", 2),)), ("a100:2,v100:1", (("a100", 2), ("v100", 1))), ("0", ()), ("a100", (("a100", 1),))])
def test_gpus_options(text, wanted) -> None:
    assert parse_gpus(text) == wanted


def found(*kinds: str) -> tuple[Gpu, ...]:
    return tuple(Gpu(id=f"GPU-{i}", index=i, type=kind) for i, kind in enumerate(kinds))


@pytest.mark.parametrize(
    ("there", "devices", "limit", "ids", "complaint"),
    [
        (found("a", "b"), (), None, ["GPU-0", "GPU-1"], ""),
        (found("a", "b"), (), GpuLimit(count=1), ["GPU-0"], ""),
        (found("a", "b"), (), GpuLimit(count=0), [], ""),
        (found("a"), (), GpuLimit(count=2), ["GPU-0"], "says 2, found 1"),
        (found("a", "b", "a"), (), GpuLimit(types=(("a", 1), ("b", 1))), ["GPU-0", "GPU-1"], ""),
        (found("a"), (), GpuLimit(types=(("c", 2),)), [], "says 2 c, found a:1"),
        (found("a", "b", "c"), (), GpuLimit(ids=("2", "gpu-0")), ["GPU-0", "GPU-2"], ""),
        (found("a"), (), GpuLimit(ids=("GPU-9", "0")), ["GPU-0"], "names GPU-9, which is not there"),
        ((), (), None, [], ""),
        ((), (), GpuLimit(count=2), ["index:0", "index:1"], ""),
        ((), (0, 1, 3), GpuLimit(count=2), ["index:0", "index:1"], ""),
        ((), (1,), GpuLimit(count=2), ["index:1"], "says 2, /dev has 1"),
        ((), (), GpuLimit(types=(("a100", 2),)), ["index:0", "index:1"], ""),
        ((), (), GpuLimit(ids=("1", "3")), ["index:1", "index:3"], ""),
        ((), (), GpuLimit(ids=("GPU-9",)), [], "no tool tells"),
    ],
)  # fmt: skip
def test_the_inventory_limits_what_is_handed_out(there, devices, limit, ids, complaint) -> None:
    gpus, said = usable_gpus(there, devices, limit)
    assert [gpu.id for gpu in gpus] == ids
    assert (complaint in said) if complaint else not said


def test_what_a_tool_does_not_find_is_not_counted() -> None:
    assert usable_gpus((), (), GpuLimit(count=2), told=True) == ((), "sshq_gpus says 2, found 0")


def test_a_gpu_in_mig_mode_is_not_handed_out() -> None:
    there = (replace(found("a100")[0], mig=True, instances=("MIG-1",)), *found("a", "a100")[1:])
    assert [gpu.id for gpu in usable_gpus(there, (), None)[0]] == ["GPU-1"]
    assert "names 0, which is not there" in usable_gpus(there, (), GpuLimit(ids=("0",)))[1]


def test_typed_ones_are_picked_first_and_the_lowest_index() -> None:
    free = found("a100", "v100", "a100", "v100")
    assert [g.index for g in pick_gpus(free, (("", 1), ("v100", 1))) or ()] == [0, 1]
    assert [g.index for g in pick_gpus(free, (("", 2), ("a100", 2))) or ()] == [0, 1, 2, 3]
    assert pick_gpus(free, (("a100", 3),)) is None
    assert pick_gpus(free, ()) == ()


def test_indices_fold() -> None:
    assert fold_indices([5, 0, 2, 1]) == "0-2,5"
    assert fold_indices([]) == ""


# ---- placement -------------------------------------------------------------------------------------------------------


def held(s: Scenario, job: str) -> list[list[int]]:
    return [[index for _, index, _ in share] for share in s.job(job).gpus]


def test_two_jobs_get_different_gpus_and_the_third_waits() -> None:
    s = Scenario().nodes("n1", cpus=8, gpus=("a100", "a100"))
    for name in "abc":
        s.submit(name, gpus_per_node="1")
    assert s.plan() == {"a": "n1", "b": "n1"}
    assert held(s, "a") == [[0]]
    assert held(s, "b") == [[1]]
    assert s.reason("c") == "Resources"
    s.started("a", "b").ended("a", code=0)
    assert s.plan() == {"c": "n1"}
    assert held(s, "c") == [[0]]


def test_a_type_is_found_where_it_is() -> None:
    s = Scenario().nodes("n1", gpus=("v100",)).nodes("n2", gpus=("v100", "a100"))
    s.submit("a", gpus_per_node="a100:1")
    assert s.plan() == {"a": "n2"}
    assert held(s, "a") == [[1]]
    s.submit("b", gpus_per_node="a100:1")
    s.plan()
    rejections = why_blocked(s.cluster, s.cluster.pending.request(s.id("b")), s.now)
    assert rejections[0] == "Resources"


@pytest.mark.parametrize("asked", [{"gpus_per_node": "3"}, {"gpus_per_node": "h100:1"}, {"gpus_per_task": "2", "num_tasks": 2, "nodes_given": True}])
def test_what_no_node_has_is_refused(asked) -> None:
    s = Scenario().nodes("n1", gpus=("v100", "a100"))
    with pytest.raises(RefusedError, match="Requested node configuration is not available"):
        s.submit("a", **asked)


def test_a_job_for_itself_has_all_gpus() -> None:
    s = Scenario().nodes("n1", gpus=("v100", "a100"))
    s.submit("a", exclusive=True)
    s.plan()
    assert held(s, "a") == [[0, 1]]


def test_who_wants_no_gpu_goes_elsewhere_first() -> None:
    s = Scenario().nodes("n1", gpus=("a100",)).nodes("n2")
    s.submit("a")
    assert s.plan() == {"a": "n2"}


def test_a_waiting_gpu_job_keeps_its_room_and_no_more() -> None:
    s = Scenario().nodes("n1", cpus=4, gpus=("a100",))
    s.submit("first", gpus_per_node="1")
    s.plan()
    s.submit("next", gpus_per_node="1", cpus_per_task=2)
    s.submit("small")
    s.submit("other")
    assert s.plan() == {"small": "n1"}, "two CPUs stay for the next one"
    s.started("first").ended("first", code=0)
    assert s.plan() == {"next": "n1", "other": "n1"}


@pytest.mark.parametrize(
    ("asked", "nodes", "gpus"),
    [
        ({"gpus_per_node": "2", "num_nodes": 2, "nodes_given": True}, ["n1", "n2"], [[0, 1], [0, 1]]),
        ({"gpus_total": "3", "num_nodes": 2, "nodes_given": True}, ["n1", "n2"], [[0, 1], [0]]),
        ({"gpus_total": "4"}, ["n1", "n2"], [[0, 1], [0, 1]]),
        ({"gpus_total": "4", "gpus_per_node": "2"}, ["n1", "n2"], [[0, 1], [0, 1]]),
        ({"gpus_per_task": "1", "num_tasks": 4, "ntasks_given": True}, ["n1", "n2"], [[0, 1], [0, 1]]),
        ({"gpus_total": "2", "ntasks_per_gpu": 2}, ["n1"], [[0, 1]]),
        ({"num_tasks": 4, "ntasks_given": True, "ntasks_per_gpu": 2}, ["n1"], [[0, 1]]),
        ({"gpus_total": "2", "gpus_per_task": "1"}, ["n1"], [[0, 1]]),
    ],
)
def test_gpus_over_nodes_and_tasks(asked, nodes, gpus) -> None:
    s = Scenario().nodes("n[1-3]", cpus=4, gpus=("a100", "a100"))
    s.submit("a", **asked)
    s.plan()
    assert list(s.job("a").nodes) == nodes
    assert held(s, "a") == gpus


def test_cpus_and_memory_come_with_the_gpus() -> None:
    s = Scenario().nodes("n1", cpus=8, gpus=("a100", "a100"))
    s.submit("a", gpus_per_node="2", cpus_per_gpu=3, memory_per_gpu_mib=500)
    s.plan()
    share = s.job("a").shares()[0]
    assert (share.cpus, share.memory_mib) == (6, 1000)


# ---- outside the queue -----------------------------------------------------------------------------------------------


def report(s: Scenario, node: str, *uses: GpuUse, problem: str = "") -> None:
    s.feed(ev.GpusReported(name=node, gpus=s.gpus[node], uses=uses, problem=problem))


def test_a_gpu_in_use_by_others_is_passed_over_until_it_is_free() -> None:
    s = Scenario().nodes("n1", cpus=8, gpus=("a100", "a100"))
    report(s, "n1", GpuUse(id="n1-0", user="anna", pid=123, memory_mib=18000))
    s.submit("a", gpus_per_node="1")
    s.submit("b", gpus_per_node="2")
    s.submit("plain", cpus_per_task=7)
    assert s.plan() == {"a": "n1", "plain": "n1"}, "what others hold is no reason to keep the node from jobs without GPUs"
    assert held(s, "a") == [[1]]
    assert s.reason("b") == "Resources"
    s.started("a", "plain").ended("a", "plain", code=0)
    assert s.plan() == {}
    report(s, "n1")
    assert s.plan() == {"b": "n1"}
    assert held(s, "b") == [[0, 1]]


def test_a_tool_that_does_not_answer_takes_the_gpus_out_of_use() -> None:
    s = Scenario().nodes("n1", gpus=("a100",))
    report(s, "n1", problem="nvidia-smi does not answer")
    s.submit("a", gpus_per_node="1")
    assert s.plan() == {}
    assert s.reason("a") == "ReqNodeNotAvail, UnavailableNodes:n1"
    report(s, "n1")
    assert s.plan() == {"a": "n1"}


def test_a_start_refused_for_a_busy_gpu_is_no_mark_against_the_job() -> None:
    s = Scenario().nodes("n1", gpus=("a100",))
    s.submit("a", gpus_per_node="1")
    for _ in range(5):
        s.plan()
        report(s, "n1", GpuUse(id="n1-0", user="anna", pid=1, memory_mib=5))
        s.feed(ev.LaunchRefused(now=s.now, launch_id=s.launch_id("a"), why="GPU 0 is in use", passing=True))
        assert s.state("a") == "PENDING"
        assert s.plan() == {}
        report(s, "n1")
    assert s.job("a").refusals == 0
    assert s.plan() == {"a": "n1"}


def test_memory_of_nobodys_on_a_running_jobs_gpu_is_the_jobs() -> None:
    s = Scenario().nodes("n1", gpus=("a100",))
    s.submit("a", gpus_per_node="1")
    s.plan()
    s.started("a")
    report(s, "n1", GpuUse(id="n1-0", memory_mib=9000))
    assert s.cluster.nodes["n1"].gpu_uses == {}
    report(s, "n1", GpuUse(id="n1-0", user="anna", pid=7, memory_mib=9000))
    assert set(s.cluster.nodes["n1"].gpu_uses) == {"n1-0"}


def test_what_a_job_holds_survives_a_restart() -> None:
    s = Scenario().nodes("n1", gpus=("a100", "a100"))
    s.submit("a", gpus_per_node="1")
    s.plan()
    running = s.started("a").entry("a", alive=True)
    s.restart().connect("n1", running)
    s.submit("b", gpus_per_node="1")
    s.plan()
    assert held(s, "b") == [[1]]


def test_facts_with_gpus_are_read_back_and_those_without_too() -> None:
    import json
    from dataclasses import asdict

    facts = NodeFacts(cpus=4, gpus=(Gpu(id="GPU-1", index=0, type="a100", mig=True, instances=("MIG-1",)),), gpu_devices=(0,))
    assert NodeFacts.parse(json.dumps(asdict(facts))) == facts
    assert NodeFacts.parse('{"cpus": 3, "features": []}') == NodeFacts(cpus=3)


jobs = st.lists(
    st.tuples(
        st.sampled_from(["gpus_per_node", "gpus_total", "gpus_per_task"]),
        st.sampled_from(["1", "2", "a:1", "b:1", "a:1,b:1", "3"]),
        st.integers(1, 2), st.integers(1, 3), st.booleans(),
    ),
    min_size=1, max_size=12,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(asked=jobs, ends=st.lists(st.integers(0, 11), max_size=20), strangers=st.lists(st.integers(0, 4), max_size=4))
def test_no_two_jobs_ever_hold_one_gpu(asked, ends, strangers) -> None:
    s = Scenario().nodes("n1", cpus=16, gpus=("a", "b", "a")).nodes("n2", cpus=16, gpus=("b", "a"))
    ids = [("n1", 0), ("n1", 1), ("n1", 2), ("n2", 0), ("n2", 1)]
    names = []
    for i, (kind, text, nodes, tasks, exclusive) in enumerate(asked):
        try:
            s.submit(f"j{i}", **{kind: text}, num_nodes=nodes, nodes_given=nodes > 1, num_tasks=max(tasks, nodes), exclusive=exclusive)
            names.append(f"j{i}")
        except RefusedError:
            pass
    taken_by_others = {ids[i] for i in strangers}
    for node in ("n1", "n2"):
        report(s, node, *(GpuUse(id=f"{name}-{index}", user="x", pid=1) for name, index in taken_by_others if name == node))
    for end in [None, *ends]:
        if end is not None and end < len(names) and s.state(names[end]) == "CONFIGURING":
            s.started(names[end]).ended(names[end], code=0)
        s.plan()
        holding = [job for job in s.cluster.jobs.values() if not job.released]
        everything = [gpu[0] for job in holding for share in job.gpus for gpu in share]
        assert len(everything) == len(set(everything))
        assert not {f"{name}-{index}" for name, index in taken_by_others} & set(everything)
        for job in holding:
            spec = job.spec
            if spec.gpus_total and not spec.exclusive:
                assert sum(len(share) for share in job.gpus) == sum(count for _, count in parse_gpus(spec.gpus_total))
            for node, share in zip(job.nodes, job.gpus, strict=False):
                assert all(gpu[0].startswith(node) for gpu in share)
    shares = [share for job in s.cluster.jobs.values() if not job.released for share in job.shares()]
    for node in s.cluster.nodes.values():
        assert node.gpus_taken == {gpu[0] for share in shares if share.node == node.name for gpu in share.gpus}
