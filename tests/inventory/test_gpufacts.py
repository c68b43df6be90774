"""What the tools of GPU makers say, in the forms of several generations, and what is made of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sshq.core.gpus import GpuUse
from sshq.inventory.gpufacts import GpuAnswer, ProcessOwner, find_uses, parse_gpus_answer, parse_owners

U0, U1 = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-b22afc7e-35ff-0571-e8c8-b8b8b9c3d8a9"
A100 = f"0, {U0}, 00000000:07:00.0, NVIDIA A100-SXM4-40GB, 40960, 4, Disabled"
RTX = f"1, {U1}, 00000000:0B:00.0, NVIDIA GeForce RTX 3090, 24576, 18050, [N/A]"


def nvidia(*lines: tuple[str, str], status: str = "0", key: str = "gpus") -> GpuAnswer:
    return parse_gpus_answer([("tool", "nvidia-smi"), *lines, (f"{key}.status", status)])


def test_a_driver_of_today() -> None:
    answer = nvidia(("gpus", A100), ("gpus", RTX), ("apps", f"{U1}, 31337, 17800"), ("apps.status", "0"))
    assert [(g.id, g.index, g.type, g.bus, g.memory_mib, g.vendor, g.mig) for g in answer.gpus] == [
        (U0, 0, "a100", "00000000:07:00.0", 40960, "nvidia", False), (U1, 1, "rtx3090", "00000000:0B:00.0", 24576, "nvidia", False)
    ]  # fmt: skip
    assert answer.used_mib == ((U0, 4), (U1, 18050))
    assert answer.processes == ((U1, 31337, 17800),)
    assert answer.problem == ""


def test_a_driver_that_knows_no_mig() -> None:
    complaint = 'Field "mig.mode.current" is not a valid field to query.'
    plain = f"0, {U0}, 0000:02:00.0, Tesla K80, 11441, [Not Supported]"
    answer = parse_gpus_answer(
        [("tool", "nvidia-smi"), ("gpus", complaint), ("gpus", ""), ("gpus.status", "2"), ("plain", plain), ("plain.status", "0"),
         ("apps", f"{U0}, 77, [N/A]"), ("apps", "[Not Supported]"), ("apps.status", "0")]
    )  # fmt: skip
    assert [(g.id, g.type, g.memory_mib) for g in answer.gpus] == [(U0, "k80", 11441)]
    assert answer.used_mib == ()
    assert answer.processes == ((U0, 77, 0),)


def test_mig_is_seen_and_its_instances_listed() -> None:
    answer = nvidia(
        ("gpus", A100.replace("Disabled", "Enabled")), ("gpus", RTX),
        ("list", f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {U0})"),
        ("list", "  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)"),
        ("list", f"MIG 1g.5gb Device 1: (UUID: MIG-{U0}/9/0)"), ("list", f"GPU 1: NVIDIA GeForce RTX 3090 (UUID: {U1})"),
    )  # fmt: skip
    assert answer.gpus[0].mig
    assert answer.gpus[0].instances == ("3g.20gb MIG-c7384736-a75d-5afc-978f-d2f1294409fd", f"1g.5gb MIG-{U0}/9/0")
    assert (answer.gpus[1].mig, answer.gpus[1].instances) == (False, ())


@pytest.mark.parametrize(
    ("lines", "status", "problem"),
    [
        (["No devices were found"], "6", ""),
        (["No devices were found"], "0", ""),
        ([], "0", ""),
        (["NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver"], "9",
         "nvidia-smi fails (9): NVIDIA-SMI has failed because it couldn't communicate"),
        (["Failed to initialize NVML: Driver/library version mismatch"], "18", "nvidia-smi fails (18): Failed to initialize NVML"),
        (["Unable to determine the device handle for GPU 0000:07:00.0: Unknown Error"], "0", "nvidia-smi fails (0): Unable"),
        ([], "hangs", "nvidia-smi does not answer"),
        ([A100], "hangs", "nvidia-smi does not answer"),
    ],
)  # fmt: skip
def test_a_tool_that_does_not_tell(lines, status, problem) -> None:
    answer = nvidia(*(("gpus", line) for line in lines), status=status)
    assert answer.gpus == ()
    assert answer.problem.startswith(problem) and bool(answer.problem) == bool(problem)


def test_a_gpu_that_has_no_uuid_is_known_by_its_place() -> None:
    assert nvidia(("gpus", "0, [N/A], 0000:01:00.0, GeForce GT 710, 1998, 5, [N/A]")).gpus[0].id == "index:0"


ROCM_HEAD = "device,GPU ID,Unique ID,PCI Bus,VRAM Total Memory (B),VRAM Total Used Memory (B),Card series,Card model,Card vendor,Card SKU"
ROCM_HEAD_6 = ROCM_HEAD.replace("Card series,Card model,Card vendor", "Card Series,Card Model,Card Vendor")
ROCM_ROW = "card0,0x740f,0xa0ef0d3db6f12111,0000:43:00.0,68702699520,10960896,AMD Instinct MI210,0x0c34,Advanced Micro Devices Inc. [AMD/ATI],D67301"


@pytest.mark.parametrize("head", [ROCM_HEAD, ROCM_HEAD_6])
def test_rocm_smi_of_two_generations(head) -> None:
    second = ROCM_ROW.replace("card0", "card1").replace("0xa0ef0d3db6f12111", "N/A").replace("AMD Instinct MI210", "0x73bf")
    answer = parse_gpus_answer(
        [("tool", "rocm-smi"), ("gpus", "WARNING: AMD GPU device(s) is/are in a low-power state. Check power control/runtime_status"),
         ("gpus", ""), ("gpus", head), ("gpus", ROCM_ROW), ("gpus", second), ("gpus.status", "0"),
         ("pids", "============================= GPUs Indexed by PID =============================="),
         ("pids", "PID 2047 is using 1 DRM device(s):"), ("pids", "0 "), ("pids", "PID 9 is using 0 DRM device(s)"),
         ("pids", "=" * 80), ("pids.status", "0")]
    )  # fmt: skip
    first, other = answer.gpus
    assert (first.id, first.index, first.type, first.bus, first.memory_mib, first.vendor) == (
        "GPU-a0ef0d3db6f12111", 0, "mi210", "0000:43:00.0", 65520, "amd"
    )  # fmt: skip
    assert (other.id, other.type) == ("index:1", "")
    assert answer.used_mib[0] == ("GPU-a0ef0d3db6f12111", 10)
    assert answer.processes == (("GPU-a0ef0d3db6f12111", 2047, 0),)


def test_rocm_smi_without_a_driver() -> None:
    lines = [("tool", "rocm-smi"), ("gpus", "ERROR:root:Driver not initialized (amdgpu not found in modules)"), ("gpus.status", "1")]
    assert parse_gpus_answer(lines).problem.startswith("rocm-smi fails (1): ERROR:root:Driver not initialized")


def test_amd_smi() -> None:
    answer = parse_gpus_answer(
        [("tool", "amd-smi"), ("gpus", "gpu,gpu_bdf,gpu_uuid"), ("gpus", "0,0000:0c:00.0,c0ff74a1-0000-1000-80b1-06985c515c91"),
         ("gpus", "1,0000:22:00.0,acff74a1-0000-1000-805d-a15efe8aaceb"), ("gpus.status", "0"),
         ("names", "gpu,market_name,vendor_id,vendor_name"), ("names", "0,AMD Instinct MI300X,0x1002,AMD"), ("names.status", "0"),
         ("memory", "gpu,total_vram,used_vram,free_vram"), ("memory", "0,196592,283,196309"), ("memory.status", "0"),
         ("pids", "gpu,name,pid,memory_usage"), ("pids", "0,python3,4242,512"), ("pids", "1,N/A,N/A,N/A"), ("pids.status", "0")]
    )  # fmt: skip
    assert [(g.id, g.type, g.memory_mib) for g in answer.gpus] == [
        ("c0ff74a1-0000-1000-80b1-06985c515c91", "mi300x", 196592), ("acff74a1-0000-1000-805d-a15efe8aaceb", "", 0)
    ]  # fmt: skip
    assert answer.processes == (("c0ff74a1-0000-1000-80b1-06985c515c91", 4242, 0),)


def test_no_tool() -> None:
    assert parse_gpus_answer([]) == GpuAnswer()
    assert parse_gpus_answer([("devices", "1 0 x")]).devices == (0, 1)


@given(st.lists(st.tuples(st.sampled_from(["tool", "gpus", "gpus.status", "apps", "plain", "list", "pids", "names", "devices"]), st.text(max_size=60))))
def test_nothing_a_node_says_breaks_the_reading(lines) -> None:
    for tool in ("nvidia-smi", "rocm-smi", "amd-smi"):
        parse_gpus_answer([("tool", tool), *lines])
    parse_owners(lines)


# ---- who has it ------------------------------------------------------------------------------------------------------

ANNA, OURS = ProcessOwner(user="anna", ours=False), ProcessOwner(user="lab", ours=True)


@pytest.mark.parametrize(
    ("used", "processes", "owners", "uses"),
    [
        ([(U0, 4)], [], {}, []),
        ([(U0, 512)], [], {}, []),
        ([(U0, 9000)], [], {}, [GpuUse(id=U0, memory_mib=9000)]),
        ([(U0, 9000)], [(U0, 7, 8900)], {7: ANNA}, [GpuUse(id=U0, user="anna", pid=7, memory_mib=8900)]),
        ([(U0, 100)], [(U0, 7, 0)], {7: ANNA}, [GpuUse(id=U0, user="anna", pid=7, memory_mib=100)]),
        ([(U0, 9000)], [(U0, 7, 8900)], {7: OURS}, []),
        ([(U0, 9000)], [(U0, 7, 10), (U0, 8, 5000)], {7: OURS, 8: ANNA}, [GpuUse(id=U0, user="anna", pid=8, memory_mib=5000)]),
        ([(U0, 3)], [(U0, 7, 8900)], {}, []),
        ([(U0, 9000)], [(U0, 7, 8900)], {}, [GpuUse(id=U0, memory_mib=9000)]),
        ([], [(U1, 7, 0)], {7: ANNA}, [GpuUse(id=U1, user="anna", pid=7)]),
    ],
)
def test_what_counts_as_in_use_by_others(used, processes, owners, uses) -> None:
    answer = GpuAnswer(used_mib=tuple(used), processes=tuple(processes))
    assert list(find_uses(answer, owners, 512)) == uses


def test_owners() -> None:
    assert parse_owners([("7", "anna - python3"), ("8", f"lab {'0' * 32} a b"), ("x", "y - z"), ("9", "")]) == {
        7: ProcessOwner(user="anna", ours=False, name="python3"), 8: ProcessOwner(user="lab", ours=True, name="a b"),
        9: ProcessOwner(user="", ours=False),
    }  # fmt: skip
