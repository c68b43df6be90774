"""scontrol show: key=value blocks of jobs, nodes, partitions and the configuration, as Slurm 22.05 prints them.

Programs cut these texts apart at blanks and signs of equality, so the order, the keys and even the blanks at line
ends are kept.  What sshq knows beyond Slurm follows at the end of a block.
"""

from sshq.core.hostlist import fold_hostlist
from sshq.core.units import format_elapsed_padded, format_memory, format_time_limit_padded
from sshq.slurm.clock import format_local
from sshq.slurm.filename import NO_TASK
from sshq.slurm.layout import keep_on_line
from sshq.slurm.messages import SLURM_VERSION
from sshq.slurm.views import (
    View,
    describe_tres,
    elapsed_of,
    has_ended,
    int_of,
    int_or_none,
    names_of,
    text_of,
    time_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NULL = "(null)"
UNKNOWN = "Unknown"


def render_job(view: View, *, now: float, oneline: bool = False, details: bool = False) -> str:
    """Return a job's block, with the blank line behind it."""
    lines = [
        *_job_identity(view),
        *_job_times(view, now),
        *_job_placement(view, details=details),
        *_job_files(view),
    ]
    if text_of(view, "note"):
        lines.append(f"Note={text_of(view, 'note')}")
    return _join([*lines, ""], oneline)


def render_node(view: View, *, oneline: bool = False) -> str:
    """Return a node's block, with the blank line behind it."""
    features = ",".join(names_of(view, "features")) or NULL
    load, free = time_of(view, "load"), int_or_none(view, "memory_free_mib")
    cpus, used = int_of(view, "cpus"), int_of(view, "cpus_alloc")
    memory, memory_used = int_of(view, "memory_mib"), int_of(view, "memory_alloc_mib")
    address = text_of(view, "address", text_of(view, "name"))
    allocated = [f"cpu={used}"] if used else []
    if memory_used:
        allocated.append(f"mem={format_memory(memory_used)}")
    gpus, gpus_used = int_of(view, "gpus"), int_of(view, "gpus_alloc")
    if gpus_used:
        allocated.append(f"gres/gpu={gpus_used}")
    lines = [
        (f"NodeName={text_of(view, 'name')} Arch={text_of(view, 'arch', 'unknown')} CoresPerSocket={int_of(view, 'cores', 1)} "),
        f"CPUAlloc={used} CPUEfctv={cpus} CPUTot={cpus} CPULoad={'N/A' if load is None else format(load, '.2f')}",
        f"AvailableFeatures={features}",
        f"ActiveFeatures={features}",
        f"Gres={text_of(view, 'gres', NULL)}",
        f"NodeAddr={address} NodeHostName={text_of(view, 'name')} Port={int_of(view, 'port', 22)} Version={SLURM_VERSION}",
        f"OS=Linux{_prefixed(' ', text_of(view, 'kernel'))} ",
        (
            f"RealMemory={memory} AllocMem={memory_used} FreeMem={'N/A' if free is None else free} "
            f"Sockets={int_of(view, 'sockets', 1)} Boards=1"
        ),
        (
            f"State={complete_node_state(view)} ThreadsPerCore={int_of(view, 'threads', 1)} "
            f"TmpDisk={int_of(view, 'tmp_disk_mib')} Weight={int_of(view, 'weight', 1)} Owner=N/A MCS_label=N/A"
        ),
        f"Partitions={','.join(names_of(view, 'partitions'))} ",
        f"BootTime={_time(view, 'boot_at', 'None')} SlurmdStartTime={_time(view, 'since_at', 'None')}",
        f"LastBusyTime={_time(view, 'last_busy_at' if view.get('last_busy_at') else 'since_at')}",
        f"CfgTRES=cpu={cpus},mem={format_memory(memory)},billing={cpus}{f',gres/gpu={gpus}' if gpus else ''}",
        f"AllocTRES={','.join(allocated)}",
        "CapWatts=n/a",
        "CurrentWatts=0 AveWatts=0",
        "ExtSensorsJoules=n/s ExtSensorsWatts=0 ExtSensorsTemp=n/s",
    ]
    reason = _node_reason(view)
    return _join([*lines, *reason], oneline)


def render_partition(view: View, nodes: "Iterable[View]" = (), *, oneline: bool = False) -> str:
    """Return a partition's block, with the blank line behind it; `nodes` are the views of all nodes, for its sum."""
    members = names_of(view, "nodes")
    known = [node for node in nodes if text_of(node, "name") in set(members)]
    cpus = int_of(view, "cpus") or sum(int_of(node, "cpus") for node in known)
    memory = sum(int_of(node, "memory_mib") for node in known)
    default_s = int_or_none(view, "default_time_s")
    lines = [
        f"PartitionName={text_of(view, 'name')}",
        "AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL",
        f"AllocNodes=ALL Default={_yes(view, 'default')} QoS=N/A",
        (
            f"DefaultTime={'NONE' if default_s is None else format_time_limit_padded(default_s)} DisableRootJobs=NO "
            f"ExclusiveUser=NO GraceTime=0 Hidden={_yes(view, 'hidden')}"
        ),
        (
            f"MaxNodes=UNLIMITED MaxTime={format_time_limit_padded(int_or_none(view, 'max_time_s'))} MinNodes=0 LLN=NO "
            "MaxCPUsPerNode=UNLIMITED"
        ),
        f"Nodes={fold_hostlist(members) or NULL}",
        f"PriorityJobFactor=1 PriorityTier={int_of(view, 'priority_tier', 1)} RootOnly=NO ReqResv=NO OverSubscribe=NO",
        "OverTimeLimit=NONE PreemptMode=OFF",
        f"State={text_of(view, 'state', 'UP')} TotalCPUs={cpus} TotalNodes={len(members)} SelectTypeParameters=NONE",
        "JobDefaults=(null)",
        "DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED",
        f"TRES=cpu={cpus},mem={format_memory(memory)},node={len(members)},billing={cpus}",
    ]
    return _join(lines, oneline)


def complete_node_state(view: View) -> str:
    """Return a node's state with its flags: IDLE, MIXED+DRAIN, DOWN+NOT_RESPONDING."""
    parts = [text_of(view, "state", "UNKNOWN")]
    if view.get("drain"):
        parts.append("DRAIN")
    if view.get("planned"):
        parts.append("PLANNED")
    if view.get("reserved"):
        parts.append(text_of(view, "reserved", ""))
    if view.get("unreachable"):
        parts.append("NOT_RESPONDING")
    return "+".join(parts)


def _join(lines: list[str], oneline: bool) -> str:
    lines = [keep_on_line(line) for line in lines]
    return " ".join(lines) + "\n" if oneline else "\n   ".join(lines) + "\n\n"


def _prefixed(prefix: str, text: str) -> str:
    return prefix + text if text else ""


def _yes(view: View, key: str) -> str:
    return "YES" if view.get(key) else "NO"


def show_time(at: float | None, missing: str = UNKNOWN) -> str:
    """Return a time as Slurm shows it, `missing` where there is none."""
    return missing if at is None else format_local(at)


def _time(view: View, key: str, missing: str = UNKNOWN) -> str:
    return show_time(time_of(view, key), missing)


def _job_identity(view: View) -> list[str]:
    array_id = int_or_none(view, "array_job_id")
    array = ""
    if array_id is not None:
        tasks = text_of(view, "array_tasks") or str(int_of(view, "array_task_id", NO_TASK))
        limit = int_or_none(view, "array_limit") or int(tasks.partition("%")[2] or 0)
        array = f" ArrayJobId={array_id} ArrayTaskId={tasks}" + (f" ArrayTaskThrottle={limit}" if limit else "")
    return [
        f"JobId={int_of(view, 'job_id')}{array} JobName={text_of(view, 'name')}",
        (
            f"UserId={text_of(view, 'user')}({int_of(view, 'uid')}) GroupId={text_of(view, 'group')}({int_of(view, 'gid')}) "
            "MCS_label=N/A"
        ),
        (
            f"Priority={int_of(view, 'priority')} Nice={int_of(view, 'nice')} Account={text_of(view, 'account', NULL)} "
            f"QOS={text_of(view, 'qos', 'normal')}"
        ),
        (
            f"JobState={'COMPLETING' if view.get('completing') else text_of(view, 'state')} "
            f"Reason={text_of(view, 'reason', 'None').replace(' ', '_')} Dependency={text_of(view, 'dependency', NULL)}"
        ),
        (
            f"Requeue={1 if view.get('requeue') else 0} Restarts={int_of(view, 'restarts')} "
            f"BatchFlag={0 if view.get('batch_flag') is False else 1} Reboot=0 "
            f"ExitCode={int_of(view, 'exit_code')}:{int_of(view, 'exit_signal')}"
        ),
    ]


def _job_times(view: View, now: float) -> list[str]:
    start_at = time_of(view, "start_at")
    begin_at = time_of(view, "begin_at")
    submit_at, eligible_at = time_of(view, "submit_at"), time_of(view, "eligible_at")
    looked_at = submit_at if eligible_at is None or eligible_at > now else eligible_at
    if start_at is None and view.get("state") == "PENDING" and begin_at is not None and begin_at > now:
        start_at = begin_at
    end_at, limit_s = time_of(view, "end_at"), int_or_none(view, "time_limit_s")
    if end_at is None and start_at is not None and limit_s is not None and not has_ended(view):
        end_at = start_at + limit_s
    limit = format_time_limit_padded(limit_s)
    return [
        f"RunTime={format_elapsed_padded(elapsed_of(view, now))} TimeLimit={limit} TimeMin=N/A",
        f"SubmitTime={_time(view, 'submit_at')} EligibleTime={_time(view, 'eligible_at')}",
        f"AccrueTime={_time(view, 'eligible_at')}",
        (
            f"StartTime={show_time(start_at)} EndTime={show_time(end_at)} Deadline={_time(view, 'deadline_at', 'N/A')}"
        ),
        f"SuspendTime=None SecsPreSuspend=0 LastSchedEval={show_time(looked_at)} Scheduler=Main",
    ]


def _job_placement(view: View, *, details: bool) -> list[str]:
    pending = view.get("state") == "PENDING"
    nodes = [] if pending else names_of(view, "nodes")
    count, most = int_of(view, "num_nodes", 1), int_of(view, "max_nodes") if pending else 0
    per_cpu, per_node = int_or_none(view, "memory_per_cpu_mib"), int_or_none(view, "memory_mib")
    memory = f"MinMemoryCPU={format_memory(per_cpu)}" if per_cpu is not None else f"MinMemoryNode={format_memory(per_node or 0)}"
    lines = [
        f"Partition={text_of(view, 'partition')} AllocNode:Sid={text_of(view, 'submit_host', 'localhost')}:0",
        (
            f"ReqNodeList={fold_hostlist(names_of(view, 'req_nodes')) or NULL} "
            f"ExcNodeList={fold_hostlist(names_of(view, 'exc_nodes')) or NULL}"
        ),
        f"NodeList={fold_hostlist(nodes)}",
    ]
    if nodes:
        lines.append(f"BatchHost={text_of(view, 'batch_host', nodes[0])}")
    lines += [
        (
            f"NumNodes={count}{f'-{most}' if most else ''} NumCPUs={int_of(view, 'cpus', 1)} "
            f"NumTasks={int_of(view, 'num_tasks', 1)} CPUs/Task={int_of(view, 'cpus_per_task', 1)} ReqB:S:C:T=0:0:*:*"
        ),
        f"TRES={describe_tres(view)}",
        f"Socks/Node=* NtasksPerN:B:S:C={int_of(view, 'ntasks_per_node')}:0:*:* CoreSpec=*",
    ]
    if details and nodes:
        mib = per_node if per_node is not None else (per_cpu or 0) * int_of(view, "cpus", 1)
        last = int_of(view, "cpus", 1) - 1
        cpu_ids = f"0-{last}" if last else "0"
        gres = ",".join(names_of(view, "gres_detail"))
        lines.append(f"  Nodes={fold_hostlist(nodes)} CPU_IDs={cpu_ids} Mem={mib} GRES={gres}")
    disk = format_memory(int_of(view, "tmp_disk_mib"))
    lines += [
        f"MinCPUsNode={max(int_of(view, 'cpus_per_task', 1), int_of(view, 'min_cpus'))} {memory} MinTmpDiskNode={disk}",
        f"Features={text_of(view, 'features', NULL)} DelayBoot=00:00:00",
        *([f"Reservation={view['reservation']}"] if view.get("reservation") else []),
        (
            f"OverSubscribe={'NO' if view.get('exclusive') else 'OK'} Contiguous=0 Licenses={text_of(view, 'licenses', NULL)} "
            "Network=(null)"
        ),
    ]
    return lines


def _job_tres(view: View) -> list[str]:
    """What was asked of GPUs, in Slurm's keys; nothing where nothing was."""
    keys = (("TresPerJob", "tres_per_job"), ("TresPerNode", "tres_per_node"), ("TresPerTask", "tres_per_task"))
    lines = [f"{name}={text_of(view, key)}" for name, key in keys if text_of(view, key)]
    for name, key in (("CpusPerTres", "cpus_per_gpu"), ("MemPerTres", "memory_per_gpu_mib")):
        if int_of(view, key):
            lines.append(f"{name}=gpu:{int_of(view, key)}")
    return lines


def _job_files(view: View) -> list[str]:
    lines = [f"Command={text_of(view, 'command', NULL)}", f"WorkDir={text_of(view, 'work_dir')}"]
    if text_of(view, "comment"):
        lines.append(f"Comment={text_of(view, 'comment')} ")
    out = text_of(view, "std_out")
    return [
        *lines,
        f"StdErr={text_of(view, 'std_err') or out}",
        f"StdIn={text_of(view, 'std_in', '/dev/null')}",
        f"StdOut={out}",
        "Power=",
        *_job_tres(view),
    ]


def _node_reason(view: View) -> list[str]:
    reason = text_of(view, "reason")
    if reason:
        return [f"Reason={reason} [{text_of(view, 'reason_user', 'sshq')}@{_time(view, 'reason_at')}]"]
    note = text_of(view, "note")
    return [f"Reason={note} [sshq@{_time(view, 'since_at')}]"] if note else []
