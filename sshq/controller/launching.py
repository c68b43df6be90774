"""From a launch to the call that is sent: environment, paths, limits; and the call that ends it.  Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from sshq.controller.describing import describe_launch
from sshq.controller.gpuwatch import GpuLook
from sshq.controller.views import expand_output, spec_view
from sshq.core import lease
from sshq.core.effects import KillLaunch
from sshq.core.gangs import limit_of
from sshq.core.model import RANK_STEP, Job, JobSpec, Launch
from sshq.core.payload import Payload, Site
from sshq.inventory.gpufacts import GpuAnswer
from sshq.inventory.model import Host
from sshq.kinds import KINDS, payload_of
from sshq.kinds.allocation import hold_payload
from sshq.runner.calls import dropped_names
from sshq.runner.protocol import Hello, LaunchCall, encode_kill, out_path
from sshq.slurm.environ import common_environment, own_environment

CLUSTER_NAME = "sshq"
STOP, CONT, KILL = 19, 18, 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a job needs besides its records: read from the store and the environment file."""

    script: bytes
    environ: Mapping[str, str]


def err_path(spool: str, launch_id: str) -> str:
    """Return where a private job's own error file lies, beside its output."""
    return f"{out_path(spool, launch_id).removesuffix('.out')}.err"


def result_path(spool: str, launch_id: str) -> str:
    """Return where a private job leaves its result, beside its output."""
    return f"{out_path(spool, launch_id).removesuffix('.out')}.result"


def describe_gpus(launch: Launch, job: Job, host: Host, look: GpuLook | None) -> dict[str, object]:
    """Return what the variables of a job say of the GPUs on the node of one of its launches."""
    held = job.gpus[launch.rank] if job.gpus else ()
    answer = look.answer if look is not None else GpuAnswer()
    places = {gpu.id: gpu.index for gpu in answer.gpus}  # an index may have changed since the probe
    vendor = answer.gpus[0].vendor if answer.gpus else "nvidia" if answer.devices or answer.tool == "nvidia-smi" else ""
    limited = host.gpus is not None and host.gpus.count != 0
    return {
        "gpu_indices": [places.get(gpu_id, index) for gpu_id, index, _ in held],
        "gpu_ids": [gpu_id for gpu_id, _, _ in held],
        "gpu_vendor": vendor,
        # Beside instances of MIG, CUDA's own numbers are not those of nvidia-smi.
        "gpu_by_id": any(gpu.mig for gpu in answer.gpus) and all(gpu_id.startswith("GPU-") for gpu_id, _, _ in held),
        "gpu_host": bool(answer.gpus or answer.devices or limited),
    }


def describe_start(launch: Launch, job: Job) -> dict[str, object]:
    """Return what the variables of a job say of it and of the node of its script."""
    facts = _describe_spec(job.spec, launch.node) | _describe_own(launch, job)
    if job.other_slots:
        facts |= {"nodes": list(job.nodes), "cpus_per_node": [share.cpus for share in job.shares()]}
    return facts


def _describe_own(launch: Launch, job: Job) -> dict[str, object]:
    """Return in what one task of an array differs from the next."""
    spec = job.spec
    return {
        "job_id": job.job_id,
        "array_job_id": job.array_job_id,
        "array_task_id": job.array_task_id,
        "restarts": job.restarts,
        "slot": launch.slot,
        "attempt": launch.attempt,
        "array_task_min": spec.array_min,
        "array_task_max": spec.array_max,
        "array_task_step": spec.array_step,
        "array_task_count": spec.array_count,
    }


def _describe_spec(spec: JobSpec, node: str) -> dict[str, object]:
    """Return the rest, of a job on one node."""
    cpus = spec.placed_tasks * spec.cpus_per_task
    return spec_view(spec) | {
        "cpus": cpus,
        "gpus_total": spec.gpus_total,
        "gpus_per_node": spec.gpus_per_node,
        "gpus_by_gres": spec.gpus_by_gres,
        "gpus_per_task": spec.gpus_per_task,
        "ntasks_per_gpu": spec.ntasks_per_gpu,
        "cpus_per_gpu": spec.cpus_per_gpu,
        "memory_per_gpu_mib": spec.memory_per_gpu_mib,
        "cluster": CLUSTER_NAME,
        "node": node,
        "nodes": [node],
        "export": spec.export,
        "cpus_per_node": [cpus],
        "submit_dir": spec.submit_dir,
        "partition": spec.partitions[0] if spec.partitions else "",
    }


def build_call(
    launch: Launch, job: Job, *, host: Host, hello: Hello, material: Material, grace_s: int, lease_from_s: int = 0,
    gpus: GpuLook | None = None, over_s: int = 0, python: str | None = None, engine: str = "",
) -> LaunchCall:  # fmt: skip
    """Return the runner's call for one launch on one host; a lease is counted from `lease_from_s` of its uptime.

    `gpus` is the newest look at its GPUs, `python` the interpreter it was found to have for the job's calls,
    `engine` what runs its container.
    """
    spec = job.spec
    facts = describe_gpus(launch, job, host, gpus)
    common = {**material.environ, **dict(host.environment), **_common_environment(launch, job, facts)}
    environ = own_environment(_describe_own(launch, job)) | _place_environment(launch, job, host)
    std_in, std_out, std_err = _streams(launch, job, hello)
    if spec.result:
        where = result_path(hello.spool, launch.id) if launch.private_dir else expand_output(spec, job, spec.result, launch.node)
        environ["SSHQ_RESULT"] = where
    if python or host.python:
        environ["SSHQ_PYTHON"] = python or host.python or ""
    payload = _payload(launch, job, material, (common, environ), facts, nice=host.nice, engine=engine)
    return LaunchCall(
        id=launch.id,
        job_id=job.job_id,
        attempt=launch.rank * RANK_STEP + launch.attempt,
        seq=launch.seq,
        epoch=launch.epoch,
        uid=hello.uid,
        boot=launch.boot,
        node=launch.node,
        limit_s=limit_of(launch, spec.time_limit_s + over_s if spec.time_limit_s and spec.time_limit_s > 0 else None),
        grace_s=grace_s,
        nice=host.nice,
        slot=launch.slot,
        work_dir=None if launch.private_dir else spec.work_dir,
        has_tree=launch.private_dir and spec.tree is not None,
        below=spec.tree_below if launch.private_dir else "",
        stdout=std_out,
        stderr=std_err if std_err != std_out else None,
        stdin=std_in,
        # A second attempt keeps what the first one wrote, as Slurm does for a requeued job.
        append=spec.open_mode == "append" or (spec.open_mode is None and launch.attempt > 1),
        umask=spec.umask,
        interpreter=payload.interpreter,
        script=payload.script,
        args=payload.args,
        environ={} if payload.own_environ else environ,
        common={} if payload.own_environ else common,
        # Warned of its limit, not of what it may run beyond it.
        warn_signal=(spec.signal[0], spec.signal[1] + over_s, spec.signal[2]) if spec.signal and not launch.rank else None,
        limits=spec.limits,
        lease_s=spec.lease_s,
        lease_from_s=lease_from_s,
        lease_grace_s=lease.grace_s(spec.lease_s) if spec.lease_s else 0,
        about=describe_launch(launch, job),
    )


def _common_environment(launch: Launch, job: Job, gpus: dict[str, object]) -> Mapping[str, str]:
    if job.gpus or job.other_slots:  # which are its own
        return common_environment(describe_start(launch, job) | gpus)
    return _plain_environment(job.spec, launch.node, str(gpus["gpu_vendor"]), bool(gpus["gpu_host"]))


@lru_cache(maxsize=64)
def _plain_environment(spec: JobSpec, node: str, gpu_vendor: str, gpu_host: bool) -> Mapping[str, str]:
    """Return them for a job on one node that has no GPU: the same for all tasks of an array there."""
    return common_environment(_describe_spec(spec, node) | {"gpu_vendor": gpu_vendor, "gpu_host": gpu_host})


def _payload(
    launch: Launch, job: Job, material: Material, variables: tuple[Mapping[str, str], Mapping[str, str]],
    facts: Mapping[str, object], *, nice: int, engine: str,
) -> Payload:  # fmt: skip
    if launch.rank:
        return hold_payload(job.spec, material.script)
    if KINDS[job.spec.kind].enclose is None:
        return payload_of(job.spec, material.script)
    environ = {**variables[0], **variables[1]}
    dropped = frozenset(dropped_names(environ))
    held = job.gpus[launch.rank] if job.gpus else ()
    return payload_of(job.spec, material.script, Site(
        node=launch.node, engine=engine, nice=nice, gpu_vendor=str(facts["gpu_vendor"] or "nvidia") if held else "",
        gpu_ids=tuple(gpu_id for gpu_id, _, _ in held), environ={n: v for n, v in environ.items() if n not in dropped},
    ))  # fmt: skip


def _place_environment(launch: Launch, job: Job, host: Host) -> dict[str, str]:
    """Return what a launch of a job on several nodes knows of its place."""
    if launch.rank:
        return {"SLURM_NODEID": str(launch.rank), "SLURM_CPUS_ON_NODE": str(job.shares()[launch.rank].cpus)}
    # By which the other nodes reach the first.
    return {"SLURM_LAUNCH_NODE_IPADDR": host.address or launch.node} if job.part_launches else {}


def _streams(launch: Launch, job: Job, hello: Hello) -> tuple[str, str | None, str | None]:
    """Return standard input, output and errors; None for the launch's own file, and for where the output goes."""
    spec, node = job.spec, launch.node
    if launch.rank:  # what is started in a part has its own
        return "/dev/null", None, None
    std_in = expand_output(spec, job, spec.std_in, node) if spec.std_in else "/dev/null"
    own_err = spec.std_err is not None
    if launch.private_dir:
        return std_in, out_path(hello.spool, launch.id), err_path(hello.spool, launch.id) if own_err else None
    return std_in, expand_output(spec, job, spec.std_out, node), expand_output(spec, job, spec.std_err, node) if own_err else None


def write_kill(effect: KillLaunch, grace_s: int) -> bytes:
    """Return the runner's call that ends or signals a launch."""
    if effect.signal == STOP and not effect.cancel:
        mode = "suspend"
    elif effect.signal == CONT and not effect.cancel:
        mode = "resume"
    else:
        narrow = "signal-batch" if effect.batch_only else "signal-full" if effect.whole else "signal"
        narrow = "signal-steps" if effect.tasks_only else narrow
        mode = "requeue" if effect.requeue else "cancel" if effect.cancel else narrow
    grace = 0 if effect.signal == KILL else grace_s
    return encode_kill(id=effect.launch_id, seq=effect.seq, mode=mode, signal=str(effect.signal), grace_s=grace)
