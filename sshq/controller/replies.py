"""The runner's replies in the core's words."""

import json
from dataclasses import asdict

from sshq.core.events import EndRecord, NodeEntry
from sshq.core.model import NodeFacts
from sshq.inventory.facts import Facts
from sshq.runner.protocol import Entry, ExitRecord

SURELY_SIGNALS = (9, 15)


def end_record(record: ExitRecord) -> EndRecord:
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
        survivors=record.survivors,
        oom=record.oom,
    )


def node_entry(entry: Entry) -> NodeEntry:
    return NodeEntry(
        launch_id=entry.id,
        seq=entry.seq,
        job_id=entry.job_id,
        attempt=entry.attempt,
        go={"none": "", "file": "file", "directory": "dir"}[entry.go],
        supervisor_alive=entry.supervisor,
        job_alive=entry.alive,
        pid=entry.pid or None,
        record=end_record(entry.record) if entry.record is not None else None,
    )


def encode_facts(facts: NodeFacts) -> str:
    """Return the text a node's facts are stored as; `NodeFacts.parse` reads it."""
    return json.dumps(asdict(facts), separators=(",", ":"))


def node_facts(facts: Facts) -> NodeFacts:
    return NodeFacts(
        cpus=facts.cpus or 1,
        memory_mib=facts.memory_mib or 0,
        arch=facts.arch or "",
        os=facts.os or "",
        kernel=facts.kernel or "",
        sockets=facts.sockets or 1,
        cores=facts.cores_per_socket or 1,
        threads=facts.threads_per_core or 1,
        tmp_disk_mib=facts.tmp_mib or 0,
        boot_at=float(facts.boot_at) if facts.boot_at else None,
    )
