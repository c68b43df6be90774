"""scancel: end or signal jobs; silent where Slurm's is, and exit 0 for jobs that are already gone."""

import os
import sys

from sshq.cli.asking import Object, ask_controller, list_items, read_items
from sshq.cli.people import lookup_uid, name_me
from sshq.cli.printing import print_json, print_messages, print_warnings
from sshq.slurm.scancel import ScancelRequest, describe_result, exit_code_of, read_scancel_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def run(argv: "Sequence[str]") -> int:
    """Run scancel; the result is its exit status."""
    request = read_scancel_options(argv, os.environ, me=name_me(), lookup_uid=lookup_uid)
    if request.wants:
        from sshq.slurm.help import describe_command

        sys.stdout.write(describe_command("scancel", request.wants))
        return 0
    print_warnings("scancel", request.warnings)
    code = _cancel_steps(request) if request.steps else 0
    return code if request.steps and not request.job_refs else max(code, _cancel_jobs(request))


def _cancel_steps(request: ScancelRequest) -> int:
    params = {"steps": [list(step) for step in request.steps], "signal": request.signal}
    results = read_items(ask_controller("scancel", "cancel_steps", params).get("results"))
    if request.json:
        print_json({"results": list(results)})
    for result in results:
        print_messages(describe_result(result, request))
        print_messages(_describe_rest(result, quiet=request.quiet))
    return 1 if any(result.get("outcome") == "refused" for result in results) else exit_code_of(results)


def _cancel_jobs(request: ScancelRequest) -> int:
    chosen = _choose_by_hand(request) if request.interactive else request.filter
    if chosen is None:
        return 0
    params = {
        "filter": chosen, "signal": request.signal, "batch": request.batch, "full": request.full, "hurry": request.hurry,
    }  # fmt: skip
    results = read_items(ask_controller("scancel", "cancel", params).get("results"))
    if request.json:
        print_json({"results": list(results)})
    texts = request.job_texts if len(request.job_texts) == len(results) else [""] * len(results)
    for result, text in zip(results, texts, strict=True):
        print_messages(describe_result(result, request, text))
        print_messages(_describe_rest(result, quiet=request.quiet))
    refused = any(result.get("outcome") == "refused" for result in results)
    return 1 if refused else exit_code_of(results)


def _describe_rest(result: "Mapping[str, object]", *, quiet: bool) -> list[str]:
    """Return what Slurm has no silence for: a refusal, and a cancel that has to wait for its host."""
    message = result.get("message")
    if not message or quiet:
        return []
    if result.get("outcome") == "refused":
        return [f"scancel: error: Kill job error on job id {result.get('job_id')}: {message}"]
    return [f"scancel: {message}"] if result.get("outcome") == "cancelled" else []


def _choose_by_hand(request: ScancelRequest) -> dict[str, object] | None:
    """Return a filter of the jobs that were confirmed one by one, None for none of them."""
    jobs, _ = list_items("scancel", "jobs", {"filter": request.filter, "finished": False})
    confirmed = [_make_ref(job) for job in jobs if _confirm(job)]
    return {"refs": confirmed} if confirmed else None


def _make_ref(job: Object) -> list[object]:
    array_id, task, waiting = job.get("array_job_id"), job.get("array_task_id"), job.get("array_tasks")
    if array_id is None:
        return [job.get("job_id"), None]
    if waiting:
        from sshq.core.arrays import parse_indices

        return [array_id, list(parse_indices(str(waiting)))]
    return [array_id, [task]]


def _confirm(job: Object) -> bool:
    task = job.get("array_task_id")
    label = job.get("job_id") if task is None else f"{job.get('array_job_id')}_{task}"
    sys.stdout.write(f"Cancel job_id={label} name={job.get('name')} partition={job.get('partition')} [y/n]? ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower().startswith("y")
