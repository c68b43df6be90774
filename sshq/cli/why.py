"""sshq why: for each host, what keeps a job from running there."""

import os
import time
from collections.abc import Mapping, Sequence

import click

from sshq.cli.asking import read_items, read_number, read_text
from sshq.cli.own import own_command, print_json_or, read_job_ref, run_command
from sshq.cli.printing import print_lines
from sshq.slurm.layout import keep_on_line
from sshq.wire.client import connect


@own_command("why")
@click.argument("job", metavar="JOB")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def _command(job: str, as_json: bool) -> int:
    """Say what JOB waits for, host by host, or what became of it."""
    ref = read_job_ref(job)
    with connect(os.environ) as client:
        reply = client.call("why", {"ref": ref})
    print_json_or(as_json, reply, lambda: print_lines(map(keep_on_line, _describe(job, reply))))
    return 0


def run(argv: Sequence[str]) -> int:
    """Run `sshq why`."""
    return run_command(_command, "why", argv)


def _describe(label: str, reply: Mapping[str, object]) -> list[str]:
    job = reply.get("job")
    view: Mapping[str, object] = job if isinstance(job, dict) else {}
    head, summary = f"Job {label} ({read_text(view, 'name')})", read_text(reply, "summary")
    state = read_text(view, "state")
    lines = [f"{head} {summary[3:]}" if summary.startswith("it is ") else f"{head} is {state}: {summary}"]
    nodes = read_items(reply.get("nodes"))
    width = max((len(read_text(node, "name")) for node in nodes), default=0)
    verdicts = max((len(read_text(node, "verdict")) for node in nodes), default=0)
    for node in nodes:
        name, verdict = read_text(node, "name"), read_text(node, "verdict")
        lines.append(f"    {name:<{width}}  {verdict:<{verdicts}}  {read_text(node, 'detail')}".rstrip())
    starts_at = read_number(reply, "expected_start_at")
    if starts_at is not None:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(starts_at))
        lines.append(f"    Expected start: {when}, if time limits hold.")
    return lines
