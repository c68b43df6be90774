"""The rows of one transaction, made ready before it begins.

Of several rows with one key the last wins, but for launches: opening and settling in one batch are two
statements, because a launch is settled only by turning an open row into a closed one.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sshq.core.arrangements import PartitionRecord, Reservation, Withdrawn
from sshq.core.model import (
    Accounting,
    HostFacts,
    Job,
    JobSpec,
    Launch,
    LaunchState,
    NodeRecord,
    Purged,
    Row,
    ScriptBlob,
    Step,
    SubmitToken,
    VariableDigests,
)
from sshq.errors import CheckFailedError
from sshq.store.records import Codec, format_column, format_json, unseal

JOBS: Final = Codec(Job, leave_out=("spec",))
SPECS: Final = Codec(
    JobSpec, repeated=("user", "group", "script", "environ", "command", "work_dir", "submit_dir", "submit_host", "origin")
)
LAUNCHES: Final = Codec(Launch)
ACCOUNTING: Final = Codec(Accounting)
STEPS: Final = Codec(Step)
NODES: Final = Codec(NodeRecord)
PARTITIONS: Final = Codec(PartitionRecord)
RESERVATIONS: Final = Codec(Reservation)

NEVER: Final = math.inf  # job.until_at of what has not ended
Value = str | bytes | int | float | None


@dataclass(slots=True)
class Batch:
    """Parameters of each statement, by key; `specs` holds those not known to be stored yet."""

    jobs: dict[int, tuple[Value, ...]] = field(default_factory=dict)
    purged: set[int] = field(default_factory=set)
    specs: dict[JobSpec, bytes] = field(default_factory=dict)
    spec_rows: list[tuple[Value, ...]] = field(default_factory=list)
    opened: dict[str, tuple[Value, ...]] = field(default_factory=dict)
    settled: dict[str, tuple[Value, ...]] = field(default_factory=dict)
    accounting: dict[str, tuple[Value, ...]] = field(default_factory=dict)
    steps: dict[str, list[tuple[Value, ...]]] = field(default_factory=dict)
    nodes: dict[str, tuple[Value, ...]] = field(default_factory=dict)
    arrangements: dict[tuple[str, str], str | None] = field(default_factory=dict)  # None: withdrawn
    scripts: dict[str, bytes] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    tokens: list[tuple[Value, ...]] = field(default_factory=list)


def prepare_batch(rows: Iterable[Row], known_specs: dict[JobSpec, bytes]) -> Batch:
    """Encode `rows`.  Raises CheckFailedError where they contradict themselves."""
    batch = Batch()
    jobs: dict[int, Job] = {}
    for row in rows:
        match row:
            case Job():
                jobs[row.job_id] = row
                batch.purged.discard(row.job_id)
            case Launch():
                _add_launch(batch, row)
            case Accounting():
                if row.launch_id in batch.accounting:
                    raise CheckFailedError(f"launch {row.launch_id} accounted twice")
                batch.accounting[row.launch_id] = (
                    row.launch_id, row.job_id, format_column(row.node), ACCOUNTING.encode(row),
                )  # fmt: skip
            case Step():
                step = (row.launch_id, row.number, row.job_id, STEPS.encode(row))
                batch.steps.setdefault(row.launch_id, []).append(step)
            case NodeRecord():
                batch.nodes[row.name] = (format_column(row.name), NODES.encode(row))
            case PartitionRecord():
                batch.arrangements["partition", format_column(row.name)] = PARTITIONS.encode(row)
            case Reservation():
                batch.arrangements["reservation", format_column(row.name)] = RESERVATIONS.encode(row)
            case Withdrawn():
                batch.arrangements[row.kind, format_column(row.name)] = None
            case ScriptBlob():
                batch.scripts[row.digest] = row.data
            case VariableDigests():
                batch.variables[row.environ] = row.text
            case HostFacts():
                batch.facts[row.digest] = row.text
            case SubmitToken():
                batch.tokens.append((row.uid, format_column(row.token), row.job_id, row.at))
            case Purged():
                batch.purged.add(row.job_id)
    for job in jobs.values():
        batch.jobs[job.job_id] = _job_row(job, _spec_digest(batch, job.spec, known_specs))
    if unsettled := batch.accounting.keys() - batch.settled.keys():
        raise CheckFailedError(f"launch {min(unsettled)} accounted but not settled")
    return batch


def _add_launch(batch: Batch, launch: Launch) -> None:
    settled = launch.state is LaunchState.SETTLED
    if settled != (launch.outcome is not None):
        raise CheckFailedError(f"launch {launch.id} is {launch.state.name} with outcome {launch.outcome}")
    rows = batch.settled if settled else batch.opened
    rows[launch.id] = (
        launch.id,
        launch.job_id,
        format_column(launch.node),
        int(not settled),
        LAUNCHES.encode(launch),
        launch.facts,
    )


def _job_row(job: Job, spec: bytes) -> tuple[Value, ...]:
    return (
        job.job_id,
        spec,
        job.array_job_id,
        job.array_task_id,
        job.spec.uid,
        format_column(job.spec.user),
        format_column(job.spec.name),
        job.state.name,
        job.submit_at if job.eligible_at is None else job.eligible_at,
        NEVER if job.end_at is None else job.end_at,
        JOBS.encode(job),
    )


def _spec_digest(batch: Batch, spec: JobSpec, known: dict[JobSpec, bytes]) -> bytes:
    digest = known.get(spec) or batch.specs.get(spec)
    if digest is None:
        text = SPECS.encode(spec)
        digest = hashlib.blake2b(unseal(text).encode(), digest_size=16).digest()
        batch.specs[spec] = digest
        partitions = format_json([format_column(name) for name in spec.partitions])
        batch.spec_rows.append((digest, spec.script, partitions, text, spec.kind, spec.environ))
    return digest
