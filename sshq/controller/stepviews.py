"""What front ends are told of steps: one plain JSON object each; `slurm/views.py` names the keys."""

from sshq.controller.replies import names_in
from sshq.controller.views import View, user_part
from sshq.core.model import Accounting, Job, Launch, Step
from sshq.core.steps import judge_step
from sshq.runner.protocol import StepEntry


def step_view(step: Step) -> View:
    """The view of a step that has ended."""
    return {
        "step_id": str(step.number), "job_id": step.job_id, "attempt": step.attempt, "name": step.name,
        "state": step.state.name, "start_at": step.start_at, "end_at": step.end_at, "exit_code": step.exit_code,
        "exit_signal": step.exit_signal, "num_tasks": step.tasks, "num_nodes": len(step.nodes), "nodes": list(step.nodes),
        "cpus": step.cpus, "user_s": step.user_s, "system_s": step.system_s, "cpu_time_s": _sum(step.user_s, step.system_s),
        "max_rss_kib": None, "submit_line": step.line,
    }  # fmt: skip


def live_step_view(step: StepEntry, job: Job, launch: Launch, now: float) -> View:
    """The view of a step of a running job, from what its node says at the moment."""
    running = step.state == "run"
    state, code, signal = judge_step(step.code or 0, done=step.state == "done")
    begun, base = launch.started_at or launch.decided_at, step.start_uptime_s

    def at(uptime_s: float | None) -> float | None:
        return None if uptime_s is None or base is None else min(now, begun + max(0.0, uptime_s - base))

    nodes = names_in(step.node_list) or (launch.node,)
    return {
        "step_id": str(step.number), "job_id": job.job_id, "attempt": launch.attempt, "name": step.name,
        "state": "RUNNING" if running else state.name, "start_at": at(step.began_uptime_s) or begun,
        "end_at": None if running else at(step.ended_uptime_s) or now, "exit_code": 0 if running else code,
        "exit_signal": None if running else signal, "num_tasks": step.tasks or 1, "num_nodes": len(nodes),
        "nodes": list(nodes), "cpus": step.cpus or job.cpus, "user_s": step.user_s, "system_s": step.system_s,
        "cpu_time_s": step.sampled_cpu_s if running else _sum(step.user_s, step.system_s),
        "max_rss_kib": step.sampled_rss_kib, "submit_line": step.line,
    }  # fmt: skip


def batch_step_view(job: Job, launch: Launch) -> View:
    """The batch step of a running job."""
    return {
        "step_id": "batch", "job_id": job.job_id, "attempt": launch.attempt, "name": "batch", "state": "RUNNING",
        "start_at": launch.started_at or launch.decided_at, "end_at": None, "exit_code": 0, "exit_signal": None,
        "num_tasks": 1, "num_nodes": 1, "nodes": [launch.node], "cpus": job.shares()[0].cpus if job.nodes else job.cpus,
        "user_s": None, "system_s": None, "cpu_time_s": None, "max_rss_kib": None, "submit_line": "",
    }  # fmt: skip


def attempt_view(row: Accounting) -> View:
    """The view of one attempt in history."""
    return {
        "attempt": row.attempt,
        "node": row.node,
        "state": row.state.name,
        "outcome": row.outcome.value,
        "start_at": row.start_at,
        "end_at": row.end_at,
        "exit_code": row.exit_code,
        "exit_signal": row.exit_signal,
        "cpu_time_s": row.cpu_time_s,
        "system_s": row.system_s,
        "user_s": user_part(row.cpu_time_s, row.system_s),
        "max_rss_kib": row.max_rss_kib,
        "cancelled_by": row.cancelled_by,
        "detail": row.detail,
        "survivors": list(row.survivors),
    }


def _sum(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second
