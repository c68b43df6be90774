"""Blocks of `scontrol show` beside jobs, nodes and partitions: steps, licenses, the daemon."""

from sshq.core.hostlist import fold_hostlist
from sshq.core.units import format_memory
from sshq.slurm.clock import format_local
from sshq.slurm.layout import keep_on_line
from sshq.slurm.messages import SLURM_VERSION
from sshq.slurm.views import View, int_of, job_label, job_of, memory_of, names_of, text_of, time_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NO_LICENSES = "No licenses configured in Slurm."


def choose_steps(steps: "Iterable[View]", name: str | None) -> list[View]:
    """Return the steps of that name, all where none is given."""
    return [step for step in steps if name is None or text_of(step, "step_id") == name]


def render_step(step: View, *, oneline: bool = False) -> str:
    """Return a running step's block, with the blank line behind it."""
    job = job_of(step)
    nodes, cpus = names_of(step, "nodes"), int_of(step, "cpus", 1)
    start_at = time_of(step, "start_at")
    memory = memory_of({**job, "cpus": cpus, "num_nodes": len(nodes)})
    tres = ",".join((f"cpu={cpus}", *([f"mem={format_memory(memory)}"] if memory else []), f"node={len(nodes)}"))
    lines = [
        (
            f"StepId={job_label(job)}.{text_of(step, 'step_id')} UserId={int_of(job, 'uid')} "
            f"StartTime={'Unknown' if start_at is None else format_local(start_at)} TimeLimit=UNLIMITED"
        ),
        f"State={text_of(step, 'state', 'RUNNING')} Partition={text_of(job, 'partition')} NodeList={fold_hostlist(nodes)}",
        (
            f"Nodes={len(nodes)} CPUs={cpus} Tasks={int_of(step, 'num_tasks', 1)} Name={text_of(step, 'name')} "
            "Network=(null)"
        ),
        f"TRES={tres}",
        "ResvPorts=(null)",
        "CPUFreqReq=Default Dist=Block",
        f"SrunHost:Pid={text_of(job, 'batch_host', '(null)')}:0",
        "",
    ]
    return _join(lines, oneline)


def render_licenses(licenses: "Iterable[View]", *, oneline: bool = False) -> str:
    """Return what `scontrol show licenses` prints."""
    blocks = []
    for item in licenses:
        total, used = int_of(item, "total"), int_of(item, "used")
        parts = [
            f"LicenseName={text_of(item, 'name')}",
            f"Total={total} Used={used} Free={total - used} Reserved=0 Remote=no",
        ]
        blocks.append((" " if oneline else "\n    ").join(parts) + "\n")
    return "".join(blocks) or f"{NO_LICENSES}\n"


def render_slurmd(status: "Mapping[str, object]", started_at: float) -> str:
    """Return what `scontrol show slurmd` prints; the one daemon here is the controller."""
    hosts = status.get("hosts")
    ready = hosts.get("ready", 0) if isinstance(hosts, dict) else 0
    pairs = (
        ("Active Steps", "NONE"), ("Actual CPUs", "0"), ("Hosts ready", str(ready)), ("Boot time", format_local(started_at)),
        ("Slurmd PID", str(status.get("pid"))), ("Version", SLURM_VERSION),
    )  # fmt: skip
    return "".join(f"{name:<25}= {value}\n" for name, value in pairs)


def _join(lines: list[str], oneline: bool) -> str:
    lines = [keep_on_line(line) for line in lines]
    return " ".join(lines).rstrip() + "\n" if oneline else "\n   ".join(lines) + "\n\n"
