"""From a submission to a job, and from a plan to launches.

A submission is checked whole before anything changes; what Slurm accepts and leaves pending (a partition that is down,
a limit above the partition's) is accepted here too.  An array is one record until its tasks start: each task that starts
gets a job id of its own, the last one keeps the array's.
"""

from typing import NoReturn

from sshq.core import dependency as dep
from sshq.core.arrays import IndexSet, format_indices, parse_indices
from sshq.core.cluster import Cluster
from sshq.core.effects import ProveDirectories
from sshq.core.events import Planned, Start, Submitted
from sshq.core.features import parse_constraint
from sshq.core.gangs import make_parts
from sshq.core.gpus import GpuShare, count_of, hold, parse_gpus
from sshq.core.gpuspec import nodes_for_total, settle_shares, settle_tasks
from sshq.core.hostfacts import note_facts
from sshq.core.interpreters import ask_everywhere
from sshq.core.licenses import parse_licenses
from sshq.core.lifecycle import Trigger, next_state
from sshq.core.model import SEQ_PER_GENERATION, Job, JobSpec, Launch, ScriptBlob, SubmitToken, VariableDigests
from sshq.core.nodes import Node
from sshq.core.placement import judge_size, request_of, take_gpus
from sshq.core.replacing import replace
from sshq.core.reservations import check_access
from sshq.errors import RefusedError


def submit(cluster: Cluster, event: Submitted) -> int:
    """Create the job and return its id."""
    spec = resolve(cluster, event.spec, held=event.held)
    tasks = parse_indices(event.array) if event.array is not None else None
    check_room(cluster, 1)
    job_id = make_job(cluster, spec, tasks, held=event.held, now=event.now)
    cluster.store_row(ScriptBlob(digest=spec.script, data=event.script))
    if event.variables:
        cluster.store_row(VariableDigests(environ=spec.environ, text=event.variables))
    if event.token:
        cluster.store_row(SubmitToken(token=event.token, uid=spec.uid, job_id=job_id, at=event.now))
    ask_hosts(cluster, spec)
    return job_id


def check_room(cluster: Cluster, count: int) -> None:
    """Refuse what the queue has no room for."""
    if len(cluster.jobs) + count > cluster.jobs_max:
        _refuse("Batch job submission failed: Slurm temporarily unable to accept job, sleeping and retrying", code="not_now")


def make_job(cluster: Cluster, spec: JobSpec, tasks: IndexSet | None, *, held: bool, now: float) -> int:
    """Put a job of an admitted spec into the queue; returns its id."""
    job = new_job(cluster.new_job_id(), cluster.new_order(), spec, tasks, held=held, now=now)
    cluster.put_job(job)
    enter_queue(cluster, job, tasks, now)
    return job.job_id


def new_job(job_id: int, order: int, spec: JobSpec, tasks: IndexSet | None, *, held: bool, now: float) -> Job:
    """Return the job, or array record, that a submission makes."""
    return Job(
        job_id=job_id,
        spec=spec,
        spec_id=job_id,
        held="user" if held else None,
        submit_at=now,
        order=order,
        array_job_id=job_id if tasks is not None else None,
        array_tasks=format_indices(tasks) if tasks is not None else None,
    )


def enter_queue(cluster: Cluster, job: Job, tasks: IndexSet | None, now: float) -> None:
    """Let a new job wait for what it has to wait for."""
    if tasks is not None:
        cluster.array_sets[job.job_id] = tasks
        cluster.array_members[job.job_id] = {job.job_id}
    cluster.count_environment(job, 1)
    cluster.dependents.watch(job)
    cluster.requeue_index(job.job_id, now)


def ask_hosts(cluster: Cluster, spec: JobSpec) -> None:
    """Ask those that have not been asked what has to be known of them before such a job can be placed."""
    ask_newcomers(cluster, spec)
    ask_everywhere(cluster, spec)


def ask_newcomers(cluster: Cluster, spec: JobSpec) -> None:
    """A host that came between the submitter's proof and now has not been asked, and would not be: no job waited yet."""
    if not spec.provable or spec.anywhere or spec.seen_from:
        return
    if not cluster.directories.may_be_unasked(spec.work_dir, len(cluster.nodes)):
        return
    for node in cluster.nodes.values():
        if node.connected and cluster.directories.take_question(spec.work_dir, node.name):
            cluster.emit(ProveDirectories(node=node.name, paths=(spec.work_dir,)))


def resolve(cluster: Cluster, spec: JobSpec, *, held: bool = False) -> JobSpec:
    """Return the spec with the defaults filled in, or refuse what can never run; of a held job the size is not judged yet.

    Raises:
        RefusedError: with Slurm's text; nothing has changed.
    """
    partitions = spec.partitions
    if not partitions:
        if cluster.default_partition is None:
            _refuse("Batch job submission failed: No partition specified or system default partition", code="unknown_partition")
        partitions = (cluster.default_partition,)
    for name in partitions:
        if name not in cluster.partitions:
            known = ", ".join(sorted(cluster.partitions)) or "none"
            raise RefusedError(
                f"invalid partition specified: {name}\n"
                "sbatch: error: Batch job submission failed: Invalid partition name specified",
                code="unknown_partition",
                hint=f"partitions are {known}",
            )
    if not any(cluster.partitions[name].accepts for name in partitions):
        _refuse("Batch job submission failed: Required partition not available (inactive or drain)", code="bad_request")
    limit = spec.time_limit_s
    if limit is None:
        first = cluster.partitions[partitions[0]]
        limit = first.default_time_s if first.default_time_s is not None else first.max_time_s
    spec = replace(spec, partitions=partitions, time_limit_s=limit if limit != -1 else None)
    unknown = [n for n in (*spec.req_nodes, *spec.exc_nodes) if n not in cluster.nodes]
    if unknown:
        _refuse(
            "Batch job submission failed: Invalid node name specified",
            code="bad_request",
            detail=(f"unknown: {','.join(unknown)}",),
        )
    _check_features(cluster, spec.features)
    _check_features(cluster, spec.prefer)
    _check_licenses(cluster, spec)
    check_access(cluster, spec)
    _check_dependency(cluster, spec)
    try:
        spec = settle_tasks(spec)
    except ValueError as error:
        refused = "Batch job submission failed: Invalid generic resource (gres) specification"
        _refuse(refused, code="bad_request", detail=(str(error),))
    spec = settle_shares(_count_nodes(cluster, spec))
    if not held:
        _check_size(cluster, spec)
    return spec


def _count_nodes(cluster: Cluster, spec: JobSpec) -> JobSpec:
    """Tasks that no node holds alone are spread over as few nodes as do, unless --nodes says how many."""
    if spec.num_nodes > 1 or spec.nodes_given or (spec.placed_tasks == 1 and not spec.gpus_total):
        return replace(spec, num_tasks=max(spec.num_tasks, spec.num_nodes))
    wanted = set(spec.partitions)
    nodes = [n for n in cluster.nodes.values() if wanted & set(n.config.partitions) and n.name not in spec.exc_nodes]
    if not nodes or any(not n.known for n in nodes):
        return spec
    count = nodes_for_total(spec, nodes)
    if count > 1:
        return replace(spec, num_nodes=count, num_tasks=max(spec.num_tasks, count))
    rooms = sorted((_room_for_tasks(n, spec) for n in nodes), reverse=True)
    held = 0
    for count, room in enumerate(rooms, 1):
        held += room
        if held >= spec.num_tasks:
            return replace(spec, num_nodes=count)
    return spec


def _room_for_tasks(node: Node, spec: JobSpec) -> int:
    """How many tasks an idle node holds."""
    gpus = count_of(parse_gpus(spec.gpus_per_task or "0"))
    room = min(node.slots, node.cpus // spec.cpus_per_task)
    return min(room, len(node.gpus) // gpus) if gpus else room


def _check_licenses(cluster: Cluster, spec: JobSpec) -> None:
    """Refuse, as Slurm, licenses that nobody counts here, or more than there are."""
    try:
        wanted = parse_licenses(spec.licenses or "")
    except ValueError as error:
        _refuse("Batch job submission failed: Invalid license specification", code="bad_request", detail=(str(error),))
    if any(count > cluster.licenses.get(name, 0) for name, count in wanted):
        known = ", ".join(f"{name}:{count}" for name, count in sorted(cluster.licenses.items())) or "none"
        _refuse("Batch job submission failed: Invalid license specification", code="bad_request",
                detail=(f"licenses are: {known}",), hint="licenses: of config.yaml says what is counted")  # fmt: skip


def _check_features(cluster: Cluster, wanted: str | None) -> None:
    if not wanted:
        return
    try:
        constraint = parse_constraint(wanted)
    except ValueError as error:
        _refuse("Batch job submission failed: Invalid feature specification", code="bad_request", detail=(str(error),))
    missing = set(constraint.names())
    for node in cluster.nodes.values():
        missing -= node.features
        if not missing:
            return
    if all(n.known for n in cluster.nodes.values()):
        known = frozenset().union(*(n.features for n in cluster.nodes.values())) if cluster.nodes else frozenset()
        detail = (f"no node has {', '.join(sorted(missing))}", f"features are: {', '.join(sorted(known)) or 'none'}")
        _refuse("Batch job submission failed: Invalid feature specification", code="bad_request", detail=detail)


def _check_dependency(cluster: Cluster, spec: JobSpec) -> None:
    if not spec.dependency:
        return
    try:
        dep.parse_dependency(spec.dependency)
    except ValueError as error:
        _refuse("Batch job submission failed: Job dependency problem", code="bad_request", detail=(str(error),))
    del cluster  # an id that is not known here is accepted and never satisfied, as Slurm does


def _check_size(cluster: Cluster, spec: JobSpec) -> None:
    """Refuse what no node could hold even when idle, once every node's size is known."""
    job = Job(job_id=0, spec=spec, spec_id=0, submit_at=0.0)
    request = request_of(job)
    nodes, rejections, wanted = [], [], frozenset(spec.partitions)
    for node in cluster.nodes.values():
        if wanted.isdisjoint(node.config.partitions):
            continue
        if not node.known:
            return
        rejection = judge_size(request, node)
        if rejection is None:
            return
        nodes.append(node)
        rejections.append(rejection)
    if nodes and not _only_cpus(request.min_cpus, nodes):
        detail = ("No node could run this job even when idle:", *(f"  {r.node}  {r.detail}" for r in rejections[:8]))
        message = "Memory specification can not be satisfied" if _memory_is_why(request.memory_mib, nodes) else (
            "Batch job submission failed: Requested node configuration is not available"
        )  # fmt: skip
        if message.startswith("Memory"):
            message += "\nsbatch: error: Batch job submission failed: Requested node configuration is not available"
        _refuse(message, code="bad_request", detail=detail, hint='sinfo -N -o "%N %c %m %f %G"')


def _only_cpus(cpus: int, nodes: list[Node]) -> bool:
    """Slurm accepts too many CPUs and leaves the job pending (PartitionConfig)."""
    return all(cpus > n.cpus for n in nodes)


def _memory_is_why(memory_mib: int, nodes: list[Node]) -> bool:
    return all(memory_mib > n.memory_mib for n in nodes)


def _refuse(message: str, *, code: str, detail: tuple[str, ...] = (), hint: str | None = None) -> NoReturn:
    raise RefusedError(message, code=code, detail=detail, hint=hint)


# ---- from a plan to launches -----------------------------------------------------------------------------------


def launch_planned(cluster: Cluster, event: Planned) -> int:
    """Allocate and order each start of a plan; returns how many."""
    done = 0
    for counter, start in enumerate(event.starts):
        node = cluster.nodes.get(start.node)
        others = [cluster.nodes.get(name) for name, _ in start.gang[1:]]
        if start.job_id in cluster.pending and all(one is not None and one.usable for one in (node, *others)):
            gpus = _take_gpus(cluster, start)
            if gpus is not None:
                _launch(cluster, start, event, counter, gpus)
                done += 1
    return done


def _take_gpus(cluster: Cluster, start: Start) -> tuple[GpuShare, ...] | None:
    """Return the GPUs of a start on each of its nodes, () for none at all; None if somebody came in between."""
    job = cluster.jobs[start.job_id]
    spec = job.spec
    if not (spec.gpus_per_node or spec.gpus_total or spec.gpus_per_task or spec.exclusive):
        return ()
    request = request_of(job)
    shares = []
    for place, (name, tasks) in enumerate(start.gang or ((start.node, job.spec.num_tasks),)):
        chosen = take_gpus(request, cluster.nodes[name], tasks, place=place)
        if chosen is None:
            return None
        shares.append(hold(chosen))
    return tuple(shares) if any(shares) else ()


def _launch(cluster: Cluster, start: Start, event: Planned, counter: int, gpus: tuple[GpuShare, ...]) -> None:
    node = cluster.nodes[start.node]
    job = cluster.jobs[start.job_id]
    if job.is_array_record:
        job = split_task(cluster, job, cluster.array_sets[job.job_id].first() or 0)
    private = cluster.directories.is_private(job.spec, node.name)
    parts = start.gang or ((node.name, job.spec.placed_tasks),)
    slots = [tuple(cluster.nodes[name].lowest_free_slots(tasks)) for name, tasks in parts]
    launch = Launch(
        id=cluster.new_launch_id(event.random, counter, event.now),
        job_id=job.job_id,
        attempt=job.attempt + 1,
        node=node.name,
        seq=node.record.generation * SEQ_PER_GENERATION + node.next_n,
        epoch=cluster.epoch,
        boot=node.record.boot,
        spool_id=node.record.spool_id,
        decided_at=event.now,
        private_dir=private,
        slot=slots[0][0] if slots[0] else 0,
        facts=note_facts(cluster, node),
    )
    node.next_n += 1
    job = replace(
        job,
        state=next_state(job.state, Trigger.ALLOCATED),
        reason="None",
        attempt=job.attempt + 1,
        launch_id=launch.id,
        nodes=tuple(name for name, _ in parts),
        slots=slots[0],
        other_slots=tuple(slots[1:]),
        gpus=gpus,
        part_launches=(),
        verdict=None,
        lost_node=None,
        released=False,
        start_at=event.now,
        end_at=None,
        exit_code=None,
        exit_signal=None,
        private_dir=private,
        requeue_asked=False,
        limit_changes=0,
        survivors=(),
        note=None,
    )
    cluster.pending.remove(job.job_id)
    cluster.take_room(job)
    if job.other_slots:
        job = make_parts(cluster, job, launch, event.random, counter)
        cluster.put_launch(replace(launch, held=True))
        return
    cluster.put_job(job)
    cluster.put_launch(launch)
    cluster.start_effect(launch, job)


def split_task(cluster: Cluster, record: Job, task: int) -> Job:
    """Take one task out of an array record; the last one turns the record itself into the task."""
    left = cluster.array_sets[record.job_id]
    left.remove(task)
    if not left:
        del cluster.array_sets[record.job_id]
        job = replace(record, array_task_id=task, array_tasks=None)
        return cluster.put_job(job)
    cluster.put_job(replace(record, array_tasks=format_indices(left)))
    job_id = cluster.new_job_id()
    job = replace(record, job_id=job_id, array_task_id=task, array_tasks=None)
    cluster.array_members[record.job_id].add(job_id)
    if record.job_id in cluster.doubted:
        cluster.doubted.add(job_id)
    cluster.count_environment(job, 1)
    return cluster.put_job(job)
