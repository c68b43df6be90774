"""scontrol show config: every key of 22.05 in its order, with what is true here.

What has no counterpart shows what Slurm shows of a thing that is not configured; a key whose value only the controller
knows is filled from its `status`.
"""

from collections.abc import Mapping

from sshq.slurm.clock import format_local
from sshq.slurm.messages import SLURM_VERSION

# KEY VALUE, in Slurm's order; a value of "-" is filled in, no value is "(null)".
_TABLE = """\
AccountingStorageBackupHost
AccountingStorageEnforce none
AccountingStorageHost localhost
AccountingStorageExternalHost
AccountingStorageParameters
AccountingStoragePort 0
AccountingStorageTRES cpu,mem,energy,node,billing,fs/disk,vmem,pages,gres/gpu
AccountingStorageType accounting_storage/sshq
AccountingStorageUser N/A
AccountingStoreFlags
AcctGatherEnergyType acct_gather_energy/none
AcctGatherFilesystemType acct_gather_filesystem/none
AcctGatherInterconnectType acct_gather_interconnect/none
AcctGatherNodeFreq 0 sec
AcctGatherProfileType acct_gather_profile/none
AllowSpecResourcesUsage No
AuthAltTypes
AuthAltParameters
AuthInfo
AuthType auth/ssh
BatchStartTimeout 10 sec
BcastExclude /lib,/usr/lib,/lib64,/usr/lib64
BcastParameters
BOOT_TIME -
BurstBufferType
CliFilterPlugins
ClusterName sshq
CommunicationParameters
CompleteWait 0 sec
CoreSpecPlugin core_spec/none
CpuFreqDef Unknown
CpuFreqGovernors OnDemand,Performance,UserSpace
CredType cred/ssh
DebugFlags
DefMemPerNode -
DependencyParameters
DisableRootJobs No
EioTimeout 60
EnforcePartLimits NO
Epilog
EpilogMsgTime 2000 usec
EpilogSlurmctld
ExtSensorsType ext_sensors/none
ExtSensorsFreq 0 sec
FederationParameters
FirstJobId 1
GetEnvTimeout 2 sec
GresTypes gpu
GpuFreqDef
GroupUpdateForce 1
GroupUpdateTime 600 sec
HASH_VAL Match
HealthCheckInterval 0 sec
HealthCheckNodeState ANY
HealthCheckProgram
InactiveLimit 0 sec
InteractiveStepOptions --interactive --preserve-env --pty $SHELL
JobAcctGatherFrequency 30
JobAcctGatherType jobacct_gather/none
JobAcctGatherParams
JobCompHost localhost
JobCompLoc
JobCompPort 0
JobCompType jobcomp/none
JobCompUser root
JobContainerType job_container/none
JobCredentialPrivateKey
JobCredentialPublicCertificate
JobDefaults
JobFileAppend 0
JobRequeue 1
JobSubmitPlugins
KillOnBadExit 0
KillWait -
LaunchParameters
LaunchType launch/slurm
Licenses
LogTimeFormat iso8601_ms
MailDomain
MailProg /bin/mail
MaxArraySize -
MaxDBDMsgs 20008
MaxJobCount -
MaxJobId 4294967294
MaxMemPerNode UNLIMITED
MaxNodeCount -
MaxStepCount 40000
MaxTasksPerNode 512
MCSPlugin mcs/none
MCSParameters
MessageTimeout 10 sec
MinJobAge -
MpiDefault none
MpiParams
MULTIPLE_SLURMD Yes
NEXT_JOB_ID -
NodeFeaturesPlugins
OverTimeLimit 0 min
PluginDir -
PlugStackConfig
PowerParameters
PowerPlugin
PreemptMode OFF
PreemptType preempt/none
PreemptExemptTime 00:00:00
PrEpParameters
PrEpPlugins prep/script
PriorityParameters
PrioritySiteFactorParameters
PrioritySiteFactorPlugin
PriorityType priority/basic
PrivateData none
ProctrackType proctrack/linuxproc
Prolog
PrologEpilogTimeout 65534
PrologSlurmctld
PrologFlags
PropagatePrioProcess 0
PropagateResourceLimits ALL
PropagateResourceLimitsExcept
RebootProgram
ReconfigFlags
RequeueExit
RequeueExitHold
ResumeFailProgram
ResumeProgram
ResumeRate 300 nodes/min
ResumeTimeout 60 sec
ResvEpilog
ResvOverRun 0 min
ResvProlog
ReturnToService 2
RoutePlugin route/default
SchedulerParameters
SchedulerTimeSlice 30 sec
SchedulerType sched/backfill
ScronParameters
SelectType select/cons_tres
SelectTypeParameters CR_CPU_MEMORY
SlurmUser -
SlurmctldAddr
SlurmctldDebug info
SlurmctldHost[0] -
SlurmctldLogFile -
SlurmctldPort 0
SlurmctldSyslogDebug
SlurmctldPrimaryOffProg
SlurmctldPrimaryOnProg
SlurmctldTimeout 120 sec
SlurmctldParameters
SlurmdDebug info
SlurmdLogFile
SlurmdParameters config_overrides
SlurmdPidFile
SlurmdPort 22
SlurmdSpoolDir
SlurmdSyslogDebug
SlurmdTimeout 300 sec
SlurmdUser -
SlurmSchedLogFile
SlurmSchedLogLevel 0
SlurmctldPidFile
SlurmctldPlugstack
SLURM_CONF -
SLURM_VERSION -
SrunEpilog
SrunPortRange 0-0
SrunProlog
StateSaveLocation -
SuspendExcNodes
SuspendExcParts
SuspendProgram
SuspendRate 60 nodes/min
SuspendTime INFINITE
SuspendTimeout 30 sec
SwitchParameters
SwitchType switch/none
TaskEpilog
TaskPlugin task/none
TaskPluginParam (null type)
TaskProlog
TCPTimeout 2 sec
TmpFS /tmp
TopologyParam
TopologyPlugin topology/none
TrackWCKey No
TreeWidth 50
UsePam No
UnkillableStepProgram
UnkillableStepTimeout 60 sec
VSizeFactor 0 percent
WaitTime 0 sec
X11Parameters
"""
_KEY_WIDTH = 23


def list_config(status: Mapping[str, object], *, now: float, host: str, user: str) -> list[tuple[str, str]]:
    """Return every key with its value.

    Args:
        status: the controller's answer to `status`.
        now: seconds since the epoch.
        host: the machine's name.
        user: the controller's account, as name(uid).
    """
    filled = _fill(status, now=now, host=host, user=user)
    pairs = []
    for line in _TABLE.splitlines():
        key, _, value = line.partition(" ")
        pairs.append((key, filled[key] if value == "-" else value or "(null)"))
    return pairs


def render_config(pairs: list[tuple[str, str]], own: list[tuple[str, str]], now: float, host: str) -> str:
    """Return what `scontrol show config` prints; what only sshq knows stands under a heading of its own."""
    lines = [f"Configuration data as of {format_local(now)}"]
    lines += [f"{key:<{_KEY_WIDTH}} = {value}" for key, value in pairs]
    lines += ["", "sshq:", *(f"{key:<{_KEY_WIDTH}} = {value}" for key, value in own)]
    return "\n".join([*lines, "", f"Slurmctld(primary) at {host} is UP", ""])


def _fill(status: Mapping[str, object], *, now: float, host: str, user: str) -> dict[str, str]:
    inventory, settings = status.get("inventory"), status.get("settings")
    path = inventory.get("path") if isinstance(inventory, Mapping) else None
    known: Mapping[str, object] = settings if isinstance(settings, Mapping) else {}
    uptime = status.get("uptime_s")
    started_at = now - (float(uptime) if isinstance(uptime, (int, float)) else 0.0)
    state_dir = str(status.get("state_dir") or "")
    memory = known.get("default_memory_mib")
    over_s = known.get("over_time_limit_s")
    return {
        "BOOT_TIME": format_local(started_at),
        "DefMemPerNode": "UNLIMITED" if memory is None else str(memory),
        "KillWait": f"{known.get('kill_wait_s', 30)} sec",
        "Licenses": str(known.get("licenses") or "(null)"),
        "MaxArraySize": str(known.get("array_size_max", 1001)),
        "MaxJobCount": str(known.get("jobs_max", 10000)),
        "MaxNodeCount": str(known.get("nodes", 0)),
        "MinJobAge": f"{known.get('finished_keep_s', 300)} sec",
        "NEXT_JOB_ID": str(known.get("next_job_id", 1)),
        "OverTimeLimit": f"{over_s // 60 if isinstance(over_s, int) else 0} min",
        "PluginDir": str(known.get("program_dir", "")),
        "SLURM_CONF": str(path or "(none: the embedded default)"),
        "SLURM_VERSION": SLURM_VERSION,
        "SlurmUser": user,
        "SlurmctldHost[0]": host,
        "SlurmctldLogFile": f"{state_dir}/controller.log",
        "SlurmdUser": user,
        "StateSaveLocation": state_dir,
    }
