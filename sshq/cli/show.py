"""sshq show: a job on one page, while it is queued, while it runs, and for as long as the history has it."""

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import click

from sshq.cli.asking import read_items, read_number, read_text
from sshq.cli.own import format_duration, own_command, print_json_or, read_job_ref, run_command
from sshq.cli.printing import print_lines
from sshq.cli.provenancepage import describe_provenance, format_bytes
from sshq.errors import RefusedError
from sshq.slurm.layout import keep_on_line
from sshq.wire.client import Client, connect

TASKS_SHOWN = 100
View = Mapping[str, object]


@own_command("show")
@click.argument("job", metavar="JOB")
@click.option("--provenance", is_flag=True, help="Where it came from and where it ran: commit, command, files, hosts.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def _command(job: str, *, provenance: bool, as_json: bool) -> int:
    """Show JOB on one page, also one that has left the queue: 12, an array 12, its task 12_3."""
    ref = read_job_ref(job)
    with connect(os.environ) as client:
        views = find_views(client, ref)
        told = client.call("provenance", {"ref": ref}) if provenance else None
    if not views:
        raise RefusedError("Invalid job id specified", code="unknown_job", detail=(job,), hint="sshq sacct -X")
    document: dict[str, object] = {"jobs": views} if told is None else {"jobs": views, "provenance": told}
    lines = describe_job(job, views) if told is None else describe_provenance(job, told)
    print_json_or(as_json, document, lambda: print_lines(map(keep_on_line, lines)))
    return 0


def run(argv: Sequence[str]) -> int:
    """Run `sshq show`."""
    return run_command(_command, "show", argv)


def find_views(client: Client, ref: Sequence[object]) -> list[dict[str, object]]:
    """Return what the history has of a job or of the tasks of an array, and of those in the queue how they are now."""
    wanted = {"filter": {"refs": [[ref[0], None if ref[1] is None else [ref[1]]]]}}
    views = {int(str(view["job_id"])): view for view in client.stream("history", {**wanted, "steps": True})}
    for view in client.stream("jobs", {**wanted, "finished": True}):
        number = int(str(view["job_id"]))
        views[number] = {**views.get(number, {}), **view}
    return list(views.values())


def describe_job(label: str, views: Sequence[View]) -> list[str]:
    """Return the lines of the page."""
    first = views[0]
    several = len(views) > 1 or (first.get("array_tasks") is not None)
    lines = [f"Job {label} ({read_text(first, 'name')}): {_describe_tasks(views) if several else _describe_state(first)}"]
    rows = _describe_request(first)
    if not several:
        rows += _describe_run(first)
    lines += _align(rows)
    return lines + (_list_tasks(views) if several else _list_attempts(first))


def _align(rows: Sequence[tuple[str, str]]) -> list[str]:
    return [f"    {name:<11} {text}" for name, text in rows if text]


def _describe_state(view: View) -> str:
    state = read_text(view, "state")
    if state == "PENDING":
        return f"PENDING, {read_text(view, 'reason')} (sshq why {label_of(view)})"
    code = format_exit(view)
    return state if code is None else f"{state}, exit code {code}"


def _describe_tasks(views: Sequence[View]) -> str:
    counts: Counter[str] = Counter()
    for view in views:
        left = read_number(view, "array_task_count") if view.get("array_tasks") is not None else 1
        counts[read_text(view, "state")] += int(left or 1)
    text = views[0].get("array_text")
    limit = read_number(views[0], "array_limit")
    name = f"array {text}" + (f"%{int(limit)}" if limit else "")
    return f"{name}: " + ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))


def _describe_request(view: View) -> list[tuple[str, str]]:
    memory = read_number(view, "memory_mib")
    limit = read_number(view, "time_limit_s")
    nodes, tasks, cpus = (int(read_number(view, key) or 1) for key in ("num_nodes", "num_tasks", "cpus"))
    asked = [_count(nodes, "node"), _count(tasks, "task"), _count(cpus, "CPU")]
    asked += [f"{int(memory)} MiB"] if memory else []
    asked += [f"at most {format_duration(limit)}"] if limit else []
    asked += [f"partition {read_text(view, 'partition')}"]
    script = read_text(view, "command").removeprefix("(null)")  # --wrap has none, and the command tells of it
    return [
        ("user", f"{read_text(view, 'user')} (uid {view.get('uid')})"),
        ("submitted", f"{format_time(view, 'submit_at')} on {read_text(view, 'submit_host') or 'an unknown host'}"),
        ("command", read_text(view, "submit_line")),
        ("script", script if view.get("batch_flag") else ""),
        ("directory", read_text(view, "work_dir")),
        ("asked for", ", ".join(asked)),
        ("comment", read_text(view, "comment")),
    ]


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _describe_run(view: View) -> list[tuple[str, str]]:
    nodes = view.get("nodes")
    where = ",".join(str(node) for node in nodes) if isinstance(nodes, list) else ""
    cpu_s, memory = read_number(view, "cpu_time_s"), read_number(view, "max_rss_kib")
    used = [] if cpu_s is None else [f"{cpu_s:.1f} s of CPU"]
    used += [] if memory is None else [f"{format_bytes(memory * 1024)} of memory"]
    started = view.get("start_at") is not None
    return [
        ("ran", f"{_describe_time(view)}{' on ' + where if where else ''}" if started else ""),
        ("used", ", ".join(used)),
        ("output", read_text(view, "std_out")),
        ("errors", read_text(view, "std_err") if view.get("std_err") != view.get("std_out") else ""),
        ("note", read_text(view, "note")),
    ]


def _describe_time(view: View) -> str:
    start, end = read_number(view, "start_at"), read_number(view, "end_at")
    over = end is not None and read_text(view, "state") not in ("RUNNING", "CONFIGURING", "SUSPENDED", "PENDING")
    if start is None:
        return ""
    if not over or end is None:
        return f"since {format_time(view, 'start_at')}"
    return f"{format_time(view, 'start_at')} to {format_time(view, 'end_at')} ({format_duration(max(0.0, end - start))})"


def _list_attempts(view: View) -> list[str]:
    attempts = read_items(view.get("attempts"))
    if len(attempts) < 2:  # then it is all said
        return []
    lines = ["    attempts"]
    for one in attempts:
        code = format_exit(one)
        state = f"{read_text(one, 'state')}{'' if code is None else ' ' + code}"
        detail = read_text(one, "detail")
        lines.append(f"        {one.get('attempt')}  {read_text(one, 'node')}  {state}  {_describe_time(one)}  {detail}".rstrip())
    return lines


def _list_tasks(views: Sequence[View]) -> list[str]:
    rows = [("TASK", "STATE", "EXIT", "NODE", "RAN")]
    for view in views[:TASKS_SHOWN]:
        nodes = view.get("nodes")
        where = ",".join(str(node) for node in nodes) if isinstance(nodes, list) else ""
        rows.append((label_of(view), read_text(view, "state"), format_exit(view) or "", where, _describe_time(view)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = []
    for row in rows:
        cells = [f"{cell:<{width}}" for cell, width in zip(row[:4], widths, strict=True)]
        lines.append("    " + "  ".join([*cells, row[4]]).rstrip())
    if len(views) > TASKS_SHOWN:
        lines.append(f"    and {len(views) - TASKS_SHOWN} more: sshq sacct -X -j {views[0].get('array_job_id')}")
    return lines


def label_of(view: View) -> str:
    """Return a job's number as users write it: 12, 12_3, 12_[4-9]."""
    if view.get("array_tasks") is not None:
        return f"{view.get('array_job_id')}_[{view.get('array_tasks')}]"
    if view.get("array_task_id") is not None:
        return f"{view.get('array_job_id')}_{view.get('array_task_id')}"
    return str(view.get("job_id"))


def format_exit(view: View) -> str | None:
    """Return Slurm's code:signal, None for what has not ended."""
    code, signal = view.get("exit_code"), view.get("exit_signal")
    return None if code is None and signal is None else f"{code or 0}:{signal or 0}"


def format_time(view: View, key: str) -> str:
    """Return a local time to the second, "" where there is none."""
    at = read_number(view, key)
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
