"""The runner's replies in the core's words."""

import json
from collections.abc import Iterable
from dataclasses import asdict

from sshq.core.events import EndRecord, NodeEntry, StepNews
from sshq.core.hostlist import expand_hostlist
from sshq.core.model import RANK_STEP, NodeFacts
from sshq.inventory.facts import Facts
from sshq.inventory.gpufacts import GpuAnswer
from sshq.runner.protocol import Entry, ExitRecord, StepEntry

SURELY_SIGNALS = (9, 15)


def end_record(record: ExitRecord, steps: Iterable[StepEntry] = ()) -> EndRecord:
    """What the core needs of an exit record."""
    duration = record.end_uptime_s - record.start_uptime_s
    signal, code = record.signal, record.code or 0
    if signal and not record.sure and not record.sent and signal not in SURELY_SIGNALS:
        # Where the node's sh says 128+n for a signal and for `exit 128+n` alike (bash, zsh): a script whose last command
        # died of SEGV or INT passes 128+n on as its own code, and that is what Slurm shows; KILL and TERM mostly hit the
        # script itself.
        code, signal = 128 + signal, None
    return EndRecord(
        how=record.how,
        code=code,
        signal=signal,
        why=record.reason,
        cancelled=record.how == "cancel",
        timed_out=record.how == "timeout",
        duration_s=max(0.0, duration),
        start_wall_at=float(record.start_at),
        end_wall_at=float(record.end_at),
        cpu_time_s=record.cpu_s,
        system_s=record.system_s,
        survivors=record.survivors,
        oom=record.oom,
        image=record.image,
        steps=tuple(step_news(step, record.start_uptime_s) for step in steps),
    )


def step_news(step: StepEntry, began_uptime_s: float) -> StepNews:
    """What the core needs of a step; `began_uptime_s` is when its launch began, by the node's uptime."""

    def since(uptime_s: float | None) -> float | None:
        return None if uptime_s is None else max(0.0, uptime_s - began_uptime_s)

    return StepNews(
        number=step.number, name=step.name, done=step.state == "done", code=step.code or 0, tasks=max(1, step.tasks or 1),
        nodes=names_in(step.node_list), cpus=step.cpus, start_s=since(step.began_uptime_s), end_s=since(step.ended_uptime_s),
        user_s=step.user_s, system_s=step.system_s, line=step.line,
    )  # fmt: skip


def names_in(node_list: str) -> tuple[str, ...]:
    """Return the names in a folded list that a node wrote; none where it is damaged."""
    try:
        return tuple(expand_hostlist(node_list)) if node_list else ()
    except ValueError:
        return ()


def node_entry(entry: Entry, steps: Iterable[StepEntry] = ()) -> NodeEntry:
    rank, attempt = divmod(entry.attempt, RANK_STEP)
    return NodeEntry(
        launch_id=entry.id,
        seq=entry.seq,
        job_id=entry.job_id,
        attempt=attempt,
        rank=rank,
        go={"none": "", "file": "file", "directory": "dir"}[entry.go],
        supervisor_alive=entry.supervisor,
        job_alive=entry.alive,
        pid=entry.pid or None,
        record=end_record(entry.record, steps) if entry.record is not None else None,
    )


def encode_facts(facts: NodeFacts) -> str:
    """Return the text a node's facts are stored as; `NodeFacts.parse` reads it."""
    return json.dumps(asdict(facts), separators=(",", ":"))


def node_facts(facts: Facts, gpus: GpuAnswer | None = None, *, own_account: bool = False) -> NodeFacts:
    """Return the facts of a node; `gpus` is what a look at them showed, `own_account` that of the controller itself."""
    gpus = gpus or GpuAnswer()
    return NodeFacts(
        cpus=facts.cpus or 1,
        memory_mib=facts.memory_mib or 0,
        arch=facts.arch or "",
        os=facts.os or "",
        kernel=facts.kernel or "",
        cpu_model=facts.cpu_model,
        gpu_driver=facts.gpu_driver,
        python=facts.python,
        sockets=facts.sockets or 1,
        cores=facts.cores_per_socket or 1,
        threads=facts.threads_per_core or 1,
        tmp_disk_mib=facts.tmp_mib or 0,
        boot_at=float(facts.boot_at) if facts.boot_at else None,
        gpus=gpus.gpus,
        gpu_tool=gpus.tool,
        gpu_devices=gpus.devices,
        gpu_problem=gpus.problem,
        engines=facts.engines,
        own_account=own_account,
    )
