"""scontrol's verbs that change jobs, nodes and partitions, and Slurm's words for what came of it."""

import time
from collections.abc import Sequence

from sshq.cli.asking import Object, ask_controller, list_items, read_items, read_text
from sshq.cli.people import lookup_uid
from sshq.cli.printing import print_messages
from sshq.core.ids import parse_job_ids
from sshq.slurm.messages import ExactError
from sshq.slurm.scontrol import Update, parse_update

Ref = list[object]
RESERVATION_KEYS = ("reservationname", "reservation")

_METHODS: dict[str, tuple[str, dict[str, object]]] = {
    "hold": ("hold", {"user": False}),
    "uhold": ("hold", {"user": True}),
    "release": ("release", {}),
    "requeue": ("requeue", {"hold": False}),
    "requeuehold": ("requeue", {"hold": True}),
    "suspend": ("suspend", {}),
    "resume": ("resume", {}),
    "top": ("top", {}),
}
# What Slurm prints once more, with the name of its call.
_CALLS = {"hold": "slurm_suspend", "uhold": "slurm_suspend", "release": "slurm_suspend"}
_GOOD = ("done", "cancelled", "signalled")


def change_jobs(verb: str, words: Sequence[str], *, quiet: bool) -> int:
    """Hold, release, requeue, suspend or resume jobs."""
    if not words:
        raise ExactError((f"too few arguments for keyword:{verb}",))
    refs = [ref for word in words for ref in _read_refs(word, verb)]
    if not refs:
        return 0
    method, params = _METHODS[verb]
    results = read_items(ask_controller("scontrol", method, params | {"refs": refs}).get("results"))
    return _tell(results, call=_CALLS.get(verb), quiet=quiet)


def update(words: Sequence[str], *, quiet: bool) -> int:
    """Carry out `scontrol update …`."""
    if not words:
        raise ExactError(("too few arguments for keyword:update",))
    if any(word.partition("=")[0].lower() in RESERVATION_KEYS for word in words[:1]):
        from sshq.cli.reserving import update as update_reservation

        return update_reservation(words)
    wanted = parse_update(words, time.time())
    if wanted.entity == "node":
        params = {"names": wanted.names, **wanted.changes}
        results = read_items(ask_controller("scontrol", "update_node", params).get("results"))
        return _tell_things(results, quiet=quiet)
    if wanted.entity == "partition":
        params = {"names": wanted.names, **wanted.changes}
        results = read_items(ask_controller("scontrol", "update_partition", params).get("results"))
        return _tell_things(results, quiet=quiet)
    return _update_jobs(wanted, quiet=quiet)


def _update_jobs(wanted: Update, *, quiet: bool) -> int:
    refs = [ref for name in wanted.names for ref in _read_refs(name, "update")]
    limit = wanted.changes.get("time_limit_s")
    if isinstance(limit, dict):
        return max((_update_relative(ref, wanted, limit, quiet=quiet) for ref in refs), default=0)
    results = read_items(ask_controller("scontrol", "update_job", {"refs": refs, "changes": wanted.changes}).get("results"))
    if set(wanted.changes) == {"time_limit_s"}:  # as recorded: a limit for a job that has ended is no mistake
        kept: Object = {"outcome": "done", "message": ""}
        results = [result | kept if result.get("outcome") == "ended" else result for result in results]
    if "priority" in wanted.changes and not quiet and any(result.get("outcome") == "done" for result in results):
        print_messages(
            f"Changes to job priority are not persistent, change nice instead for job {_label(result)}" for result in results
        )
    return _tell(results, call=None, quiet=quiet)


def _update_relative(ref: Ref, wanted: Update, change: dict[str, object], *, quiet: bool) -> int:
    """TimeLimit=+5 counts from the limit each job has."""
    jobs, _ = list_items("scontrol", "jobs", {"filter": {"refs": [ref]}, "finished": False})
    added = change.get("add_s")
    code = 0 if jobs else _tell([{"job_id": ref[0], "outcome": "unknown"}], call=None, quiet=quiet)
    for job in jobs:
        limit = job.get("time_limit_s")
        if not isinstance(limit, int) or not isinstance(added, int):
            print_messages([f"scontrol: error: job {job.get('job_id')} has no time limit to add to"])
            code = 1
            continue
        changes = wanted.changes | {"time_limit_s": max(60, limit + added)}
        params = {"refs": [[job.get("job_id"), None]], "changes": changes}
        results = read_items(ask_controller("scontrol", "update_job", params).get("results"))
        code = max(code, _tell(results, call=None, quiet=quiet))
    return code


def _read_refs(word: str, verb: str) -> list[Ref]:
    key, equals, value = word.partition("=")
    if equals and key.lower() in ("jobname", "name"):
        return _find_by_name(value)
    if equals and key.lower() in ("job", "jobid"):
        word = value
    elif equals:
        raise ExactError((f"Invalid job id {word}",))
    try:
        return [[ref.job_id, list(ref.tasks) if ref.tasks is not None else None] for ref in parse_job_ids(word)]
    except ValueError:
        if verb == "update":
            raise ExactError((f"Invalid job id specified for job {word}",)) from None
        raise ExactError((f"Invalid job id {word}",)) from None


def _find_by_name(name: str) -> list[Ref]:
    """Return the caller's live jobs of a name; root's word counts for everybody's."""
    import os

    from sshq.cli.people import name_me

    wanted: Object = {"names": [name]}
    if os.getuid() != 0 and lookup_uid(name_me()) is not None:
        wanted["users"] = [name_me()]
    jobs, _ = list_items("scontrol", "jobs", {"filter": wanted, "finished": False})
    return [[job.get("array_job_id") or job.get("job_id"), None] for job in jobs]


def _label(result: Object) -> str:
    task = result.get("array_task_id")
    return f"{result.get('job_id')}" if task is None else f"{result.get('job_id')}_{task}"


def _tell(results: Sequence[Object], *, call: str | None, quiet: bool) -> int:
    faults = [result for result in results if result.get("outcome") not in _GOOD]
    for fault in faults:
        default = "Invalid job id specified" if fault.get("outcome") == "unknown" else "Job update failed"
        text = read_text(fault, "message") or default
        if not quiet:
            print_messages([text if "for job" in text else f"{text} for job {_label(fault)}"])
            if call is not None:
                print_messages([f"{call} error: {text.partition(' for job')[0]}"])
    # What a verb says although it did it: a host that is away, say.
    kept = [read_text(result, "message") for result in results if result.get("outcome") in _GOOD]
    print_messages(f"scontrol: {text}" for text in kept if text and not quiet)
    return 1 if faults else 0


def _tell_things(results: Sequence[Object], *, quiet: bool) -> int:
    faults = [result for result in results if result.get("outcome") not in _GOOD]
    if not quiet:
        texts = [read_text(fault, "message") or "Invalid node name specified" for fault in faults]
        print_messages(text if text.startswith("You must") else f"slurm_update error: {text}" for text in texts)
    return 1 if faults else 0
