"""sshq reproduce: a job of the past submitted once more, with its script, options, files and environment as they were."""

import os
from collections.abc import Callable, Mapping, Sequence

import click

from sshq.api.origin import PATIENT_LOOK_S, describe_origin
from sshq.api.proof import find_own_cwd, leave_own
from sshq.cli import here
from sshq.cli.asking import read_items, read_text
from sshq.cli.own import UsageMistakeError, own_command, read_job_ref, run_command
from sshq.cli.printing import print_json, print_lines, print_messages
from sshq.cli.provenancepage import describe_script, describe_tree, format_value, names_line
from sshq.cli.sbatch import hand_in
from sshq.errors import OptionError, RefusedError
from sshq.slurm.environ import filter_submitted_environment
from sshq.slurm.layout import keep_on_line
from sshq.slurm.submit import Submission, build_submission
from sshq.wire.client import Client, connect

View = Mapping[str, object]
# Options of sbatch that would make it another job, with what to do instead.
_OTHER_JOB = {
    "wrap": "sbatch --wrap", "sync": "sbatch --sync", "stage_in": "sbatch --stage-in", "container": "sbatch --container",
}  # fmt: skip


@own_command("reproduce")
@click.argument("job", metavar="JOB")
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[SBATCH OPTIONS]")
@click.option("--dry-run", is_flag=True, help="Say what would be submitted and what differs now; submit nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: print it as JSON.")
def _command(job: str, options: tuple[str, ...], *, dry_run: bool, as_json: bool) -> int:
    """Submit JOB once more: 12, an array 12, its task 12_3; also long after it left the queue.

    It has the same script, arguments, options, frozen files (--sync) and environment.  What is no longer kept and what differs
    now (commit, variables, hosts) is said.  Options of sbatch after JOB replace the recorded ones: sshq reproduce 12 -t 2:00:00.
    Dependencies, --begin and --deadline are not repeated.
    """
    ref = read_job_ref(job)
    if as_json and not dry_run:
        raise UsageMistakeError("--json is for --dry-run", hint="sshq reproduce JOB --dry-run --json")
    changes = _read_options(options)
    with connect(os.environ) as client:
        told = client.call("provenance", {"ref": ref, "again": True})
        again = _check(job, told)
        submission, notes = _prepare(job, told, again, changes, lambda environ: _compare(client, ref, environ))
    if not dry_run:
        if not submission.quiet:
            print_messages(f"reproduce: {keep_on_line(note)}" for note in notes)
        return hand_in(submission)
    if as_json:
        print_json({"description": submission.description, "variables": sorted(submission.environ), "notes": notes})
    else:
        print_lines(map(keep_on_line, _describe(job, told, submission, notes)))
    return 0


_command.context_settings.update(ignore_unknown_options=True)  # they are sbatch's


def run(argv: Sequence[str]) -> int:
    """Run `sshq reproduce`."""
    return run_command(_command, "reproduce", argv)


def _find_environ(export: object) -> dict[str, str]:
    """Return the variables that a job would get from here, by the value of its --export."""
    text = export if isinstance(export, str) else None
    return leave_own(filter_submitted_environment(here.place.environ, text), text)


def _compare(client: Client, ref: Sequence[object], environ: Mapping[str, str]) -> object:
    """Return how an environment differs from the recorded one: by name, `changed`, `gone` and `new`; None: it is not known."""
    found = client.call("provenance", {"ref": ref, "environ": environ}).get("environ")
    return found.get("difference") if isinstance(found, dict) else None


def _read_options(words: Sequence[str]) -> Submission:
    """Return what the options ask for, as of an empty job.  Raises OptionError, in sbatch's words."""
    try:
        submission = _build(words)
    except OptionError as error:
        if error.source != "--wrap":
            raise
        what = "only options go after JOB: its script and arguments are the recorded ones"
        raise UsageMistakeError(what, hint="sbatch FILE ARGS submits another script") from None
    for key, instead in _OTHER_JOB.items():
        if f"--{key.replace('_', '-')}" in words or any(w.startswith(f"--{key.replace('_', '-')}=") for w in words):
            raise UsageMistakeError(f"--{key.replace('_', '-')} would make it another job", hint=instead)
    if submission.wants:
        raise UsageMistakeError(f"--{submission.wants} belongs to sbatch", hint="sshq sbatch --help")
    return submission


def _build(words: Sequence[str]) -> Submission:
    place = here.place
    return build_submission(
        ["--wrap=:", *words], {}, read_file=place.read_file, read_stdin=lambda: b"", now=_now(), umask=place.umask,
        cwd=place.find_cwd(), submit_host=place.host_name, read_limit=place.read_limit,
    )  # fmt: skip


def _now() -> float:
    import time

    return time.time()


def _check(label: str, told: View) -> View:
    """Return what is to be submitted; or say what is gone."""
    again = told.get("again")
    again = again if isinstance(again, dict) else {}
    job = told.get("job")
    command = read_text(job, "command") if isinstance(job, dict) else ""
    if again.get("refused"):
        raise RefusedError(f"job {label} cannot be reproduced: {again['refused']}", code="bad_request")
    if again.get("gone"):
        raise RefusedError(
            f"job {label} cannot be reproduced: its script is no longer kept", code="bad_request",
            detail=(f"{command}: {describe_script(told)}", "scripts_max in config.yaml says how much is kept"),
            hint=f"sshq show {label} --provenance",
        )  # fmt: skip
    tree = told.get("tree")
    if isinstance(tree, dict) and tree.get("missing") is not None:
        raise RefusedError(
            f"job {label} cannot be reproduced: the files that went along are no longer kept", code="bad_request",
            detail=(str(tree["missing"]), describe_tree(told), "see objects_keep and objects_max in config.yaml"),
            hint=f"sshq show {label} --provenance",
        )  # fmt: skip
    return again


def _prepare(
    job: str, told: View, again: View, changes: Submission, compare: Callable[[Mapping[str, str]], object]
) -> tuple[Submission, list[str]]:
    """Return the submission, and what is different from the first time."""
    recorded = again.get("description")
    description: dict[str, object] = dict(recorded) if isinstance(recorded, dict) else {}
    plain, overrides = _build(()).description, changes.description
    names = {key for key in overrides if overrides[key] != plain.get(key)} | changes.sources.keys() & overrides.keys()
    names -= {"script", "name", "command", "submit_dir", "submit_host"} - changes.sources.keys()
    if names & {"memory_mib", "memory_per_cpu_mib", "memory_per_gpu_mib"}:  # only one of them can be
        for key in ("memory_mib", "memory_per_cpu_mib", "memory_per_gpu_mib"):
            description.pop(key, None)
    description |= {key: overrides[key] for key in names}
    notes = [f"{option} is not repeated" for option in _texts(again.get("left_out"))]
    kept = again.get("environ")
    if isinstance(kept, dict) and "export" not in names:
        changes.environ = {str(name): str(value) for name, value in kept.items()}
    else:
        changes.environ = _find_environ(description.get("export"))
        exported = "export" in names
        notes += ["--export: the environment is the one of now"] if exported else _describe_environ(compare(changes.environ))
    notes += _compare_commit(told) + _compare_hosts(told)
    description["submit_host"] = here.place.host_name
    description["submit_line"] = f"sshq reproduce {job}" + "".join(f" {word}" for word in _words(changes))
    description["origin"] = _make_origin(job, told, frozen=description.get("frozen") is True)
    changes.description = description
    return changes, notes


def _words(changes: Submission) -> list[str]:
    """Return the options that were given, as words."""
    said = [(name, value) for name, value in changes.options.items() if (name, value) not in (("wrap", ":"), ("verbose", "0"))]
    return [f"--{name}" if value == "set" else f"--{name}={value}" for name, value in said]


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def _describe_environ(difference: object) -> list[str]:
    """Say how the environment of now differs from the recorded one, whose values are gone."""
    if not isinstance(difference, dict):
        return ["the environment is the one of now; it cannot be compared with the one of then"]
    words = (("changed", "have another value"), ("gone", "are not set any more"), ("new", "were not set then"))
    return [f"variables that {text}: {names_line(names)}" for key, text in words if (names := _texts(difference.get(key)))]


def _find_origin(told: View) -> dict[str, str]:
    origin = told.get("origin")
    return {str(key): str(value) for key, value in origin.items()} if isinstance(origin, dict) else {}


def _compare_commit(told: View) -> list[str]:
    """Say how the work tree differs now; of frozen files only for information: they run as they were."""
    then = _find_origin(told)
    if not then.get("commit") or not os.path.isdir(then["top"]):
        return []
    now = describe_origin(then["top"], look_s=PATIENT_LOOK_S)
    tree = told.get("tree")
    frozen = isinstance(tree, dict) and tree.get("frozen") is True
    runs = "; the job's files are those of then" if frozen else "; the job finds the files of now"
    if now.get("commit") != then["commit"]:
        return [f"{then['top']} is at {now.get('commit', 'no commit')[:12]} now, was at {then['commit'][:12]}{runs}"]
    if then.get("files") and now.get("files") and then["files"] != now["files"]:
        return [f"tracked files of {then['top']} have changed since{runs}"]
    return []


def _compare_hosts(told: View) -> list[str]:
    """Say how hosts that it ran on have changed."""
    known, now = told.get("facts"), told.get("facts_now")
    if not isinstance(known, dict) or not isinstance(now, dict):
        return []
    latest = {read_text(one, "node"): read_text(one, "facts") for one in read_items(told.get("launches"))}
    lines = []
    for node, digest in sorted(latest.items()):
        before, after = known.get(digest), now.get(node)
        if node not in now:
            lines.append(f"host {node} is not there any more")
        elif isinstance(before, dict) and isinstance(after, dict):
            changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
            lines += [f"host {node}: {key} is {_show(after.get(key))} now, was {_show(before.get(key))}" for key in changed]
    return lines


def _show(value: object) -> str:
    return format_value(value) or "not known"


def _make_origin(job: str, told: View, *, frozen: bool) -> dict[str, str]:
    """Frozen files are of the commit of then; whatever else the job reads is of now."""
    then = _find_origin(told)
    now = describe_origin(then["top"] if os.path.isdir(then.get("top", "")) else find_own_cwd(), look_s=PATIENT_LOOK_S)
    return (then | {"version": now["version"]} if frozen else now) | {"again": job}


def _describe(job: str, told: View, submission: Submission, notes: Sequence[str]) -> list[str]:
    description = submission.description
    view = told.get("job")
    environ = told.get("again")
    kept = isinstance(environ, dict) and isinstance(environ.get("environ"), dict)
    rows = [
        ("recorded", read_text(view, "submit_line") if isinstance(view, dict) else ""),
        ("directory", str(description.get("work_dir"))),
        ("script", describe_script(told)),
        ("files", describe_tree(told)),
        ("environment", f"{len(submission.environ)} variables, " + ("as recorded" if kept else "of now")),
        ("replaced", " ".join(_words(submission))),
    ]
    lines = [f"Job {job} can be reproduced"]
    lines += [f"    {name:<12} {text}" for name, text in rows if text]
    return lines + [f"    differs      {note}" for note in notes]
