"""What sbatch asks the controller for: script, directives, SBATCH_ variables and command line, merged.

Order of strength, as Slurm's: command line, environment, directives (#SSHQ, #SBATCH, others'), defaults.  The result
is a plain description that travels as JSON; where each value came from is kept beside it, so that a refusal can name the
user's own words.
"""

from sshq.errors import OptionError
from sshq.slurm.directives import FOREIGN_MARKERS, SLURM_MARKERS, check_script, read_directives
from sshq.slurm.getopt import Given, Parsed, judge_handling, scan_environment, scan_words
from sshq.slurm.messages import SCRIPT_EMPTY, ExactError, make_error_lines
from sshq.slurm.options import Option, options_of
from sshq.slurm.options_container import CONTAINER_FIELDS
from sshq.slurm.values import Clock, read_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

WRAPPER = "#!/bin/sh\n# This script was created by sbatch --wrap.\n\n{command}\n"
# What srun sends: the job is the srun of its node, with one step.  Its words are the script's arguments, so that nothing is
# quoted anew; run by sh, as the spool may lie where nothing can be executed.
COMMAND_RUNNER = '#!/bin/sh\nexec /bin/sh "${SSHQ_DIR%/a/*}/bin/srun" "$@"\n'
PLAIN_RUNNER = '#!/bin/sh\nexec "$@"\n'  # in a container there is no srun of ours
OWN_CLUSTERS = ("sshq", "all")  # what -M may name without being told that it has no effect
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"

# Fields of the command itself; all others go into the description.
_CLIENT_FIELDS = ("wait", "parsable", "quiet", "verbose", "test_only", "wrap", "ignore_pbs", "export_file", "help",
                  "usage", "version", "no_kill", "nodefile", "propagate")  # fmt: skip
_DESCRIBED = (
    "name", "work_dir", "std_out", "std_err", "std_in", "open_mode", "partition", "time_limit_s", "memory_mib",
    "memory_per_cpu_mib", "req_nodes", "exc_nodes", "features", "nice", "priority", "begin_at", "deadline_at", "signal",
    "requeue", "comment", "account", "qos", "dependency", "export", "ntasks_per_node", "min_cpus", "tmp_disk_mib", "prefer",
    "licenses", "reservation", "ntasks_per_gpu", "cpus_per_gpu", "memory_per_gpu_mib", "lease_s",
)  # fmt: skip  # the keys that are None where nothing was said


class Submission:
    """One call of sbatch, understood.

    Attributes:
        description: what the controller gets, JSON-able.
        environ: the variables that go along.
        cluster: of -M, "" if none was named; replies then name it.
        wait, parsable, quiet, test_only, verbose: what the command itself does.
        options: for -v, the long names of what was given with their values, as Slurm lists them.
        warnings: one line for each option without effect.
        wants: "help", "usage" or "version" if that was asked for; the description is empty then.
        sync: the directory whose tree goes along, None for none; stage_in: files and directories that do.
        sources: by key of the description, the user's words with their place.
    """

    __slots__ = (
        "cluster", "description", "environ", "options", "parsable", "quiet", "sources",
        "stage_in", "sync", "test_only", "verbose", "wait", "wants", "warnings",
    )  # fmt: skip

    def __init__(self) -> None:
        self.description: dict[str, object] = {}
        self.environ: dict[str, str] = {}
        self.wait = self.parsable = self.quiet = self.test_only = False
        self.verbose = 0
        self.cluster = ""
        self.options: dict[str, str] = {}
        self.warnings: list[str] = []
        self.wants: str | None = None
        self.sync: str | None = None
        self.stage_in: list[str] = []
        self.sources: dict[str, str] = {}


def build_submission(
    argv: "Sequence[str]", environ: "Mapping[str, str]", *,
    read_file: "Callable[[str], bytes]", read_stdin: "Callable[[], bytes]",
    now: float, umask: int, cwd: str, submit_host: str = "", command: str = "sbatch",
    read_limit: "Callable[[str], int] | None" = None, label: str = "",
) -> Submission:  # fmt: skip
    """Return what a call of sbatch asks for.

    Args:
        argv: without the program's name.
        environ: of the command.
        read_file: gives a file's bytes, or raises OSError.
        read_stdin: gives the script when no file is named.
        now: seconds since the epoch, for --begin=now+1hour.
        umask: of the command, for the job's files.
        cwd: of the command: where relative names begin, and where the job runs.
        submit_host: the machine's name.
        read_limit: gives a soft limit by its name (NOFILE), -1 for none; for --propagate.
        command: sbatch, or srun, whose words are a command line and not a script.
        label: the script's name in messages; default: the last part of its path.

    Raises:
        OptionError: with Slurm's text and status.
    """
    options = options_of(command)
    flags, arguments = scan_words(command, options, argv, permute=False)
    if arguments[:1] == [":"]:
        raise refuse_heterogeneous(command, " ".join((*argv[: len(argv) - len(arguments) + 1], "…")))
    variables = scan_environment(options, environ)
    submission = Submission()
    submission.wants = Parsed(command, flags, []).wants
    if submission.wants:
        return submission
    early = Parsed(command, [*variables, *flags], arguments)
    clock = Clock(now, _local_offset)  # bad values of the command line are told before the script is read, as Slurm does
    values = {id(one): read_value(one, clock, command) for one in early.given}
    script, path, args = _read_script(early, environ, read_file, read_stdin, cwd)
    label, directed = label or path.rpartition("/")[2] or "stdin", []
    if command == "sbatch" and not early.has("wrap"):
        directed = _scan_directives(command, options, script, label, early.has("ignore_pbs"))
    merged = Parsed(command, [*(one for group in directed for one in group), *early.given], arguments)
    submission.warnings = judge_handling(merged)
    values |= {id(one): read_value(one, clock, command) for group in directed for one in group}
    chosen = _choose([*directed, variables, flags], values)
    _take_client_options(submission, merged, chosen, cwd)
    _settle_conflicts(chosen, merged)
    _take_nodefile(chosen, read_file, cwd)
    _check_combinations(chosen)
    submission.description = _describe(chosen, cwd)
    _take_limits(submission, chosen, read_limit)
    submission.description |= {
        "script": script,
        "args": args,
        "command": " ".join((path, *args)).strip(),
        "umask": _read_umask(environ.get("SLURM_UMASK"), umask),
        "submit_host": submit_host,
    }
    if not submission.description["name"]:
        found = path or (args[0] if command != "sbatch" and args else "")
        default = "interactive" if command == "salloc" else "sbatch"
        submission.description["name"] = "wrap" if early.has("wrap") else found.rpartition("/")[2] or default
    submission.sources = {field: one.text for field, (one, _) in chosen.items() if field not in _CLIENT_FIELDS}
    if command == "srun" and "container" not in submission.description:
        submission.description["args"] = [*_take_step_options(submission, merged), "--", *args]
    if command == "salloc":
        submission.description |= {"kind": "allocation", "args": [], "command": "", "std_out": "/dev/null", "requeue": False}
    else:
        submission.environ = _choose_environment(merged, environ, read_file)
    _settle_nodes(submission, merged)
    return submission


def refuse_heterogeneous(command: str, text: str) -> OptionError:
    """Return the error for several jobs in one (` : ` between options, `#SBATCH hetjob`), naming the user's words."""
    return OptionError(
        "heterogeneous jobs are not supported by sshq, and running one component would change what runs", source=":",
        detail=(text,), hint=f"one {command} for each component, tied together by --dependency=after:JOB",
    )  # fmt: skip


def place_refusal(submission: Submission, key: str) -> tuple[str, ...]:
    """Return the user's own words for a key of the description, as detail lines of an error; none if defaulted."""
    text = submission.sources.get(key)
    return (text,) if text else ()


def _read_script(
    parsed: Parsed, environ: "Mapping[str, str]", read_file: "Callable[[str], bytes]", read_stdin: "Callable[[], bytes]",
    cwd: str,
) -> tuple[str, str, list[str]]:  # fmt: skip
    """Return the script's text, the path it was found at ("" for none) and its arguments."""
    if parsed.command == "srun":
        if not parsed.arguments:
            raise ExactError(("srun: fatal: No command given to execute.",))
        return PLAIN_RUNNER if parsed.has("container") else COMMAND_RUNNER, "", list(parsed.arguments)
    if parsed.command == "salloc":
        return "#!/bin/sh\n", "", list(parsed.arguments)
    wrapped = parsed.value("wrap")
    if wrapped is not None:
        if parsed.arguments:
            raise OptionError("Script arguments not permitted with --wrap option", source="--wrap")
        return WRAPPER.format(command=wrapped), "", []
    if not parsed.arguments:
        script, path = read_stdin(), ""
    else:
        folders = [_join(cwd, parsed.value("work_dir") or "")]  # sbatch(1): --chdir stands in for the directory here
        if "/" not in parsed.arguments[0]:
            folders += [folder for folder in environ.get("PATH", DEFAULT_PATH).split(":") if folder]
        script, path = find_script(parsed.arguments[0], [*folders, cwd], read_file, parsed.command)
    check_script(script, parsed.command)
    return script.decode("utf-8", "surrogateescape"), path, list(parsed.arguments[1:])


def find_script(name: str, folders: list[str], read_file: "Callable[[str], bytes]", command: str) -> tuple[bytes, str]:
    """Return a script's bytes and where it was found.  Raises OptionError."""
    for path in dict.fromkeys(_join(folder, name) for folder in folders):
        try:
            return read_file(path), path
        except IsADirectoryError:
            raise make_error_lines(command, (SCRIPT_EMPTY,)) from None
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise OptionError(f"Unable to open file {name}", detail=(f"{path}: {error.strerror}",)) from None
    raise OptionError(f"Unable to open file {name}")


def _scan_directives(command: str, options: tuple[Option, ...], script: str, label: str, ignore_pbs: bool) -> list[list[Given]]:
    """Return the options of the script's directives by their markers, weakest first: #PBS, #BSUB, #SBATCH, #SSHQ."""
    ranked: dict[str, list[Given]] = {marker: [] for marker in (*FOREIGN_MARKERS, *SLURM_MARKERS)}
    for directive in read_directives(script, label, command):
        own = directive.marker in SLURM_MARKERS
        if not own and ignore_pbs:
            continue
        place = (f"{label}:{directive.line}", f"{label}:{directive.line}: {directive.text}")
        given, rest = scan_words(command, options, directive.words, permute=False, place=place)
        if rest[:1] in (["hetjob"], ["packjob"]):
            raise refuse_heterogeneous(command, place[1])
        if rest:
            message = f"{command}: error: Invalid directive found in batch script: {rest[0]}"
            raise ExactError((message,), source=place[0], detail=(place[1],))
        late = next((one for one in given if one.option.field in ("wrap", "ignore_pbs")), None)
        if late:
            raise OptionError(f"{late.option.name} comes too late in a script", source=place[0], detail=(place[1],))
        ranked[directive.marker] += given
    return list(ranked.values())


def _choose(groups: list[list[Given]], values: "Mapping[int, object]") -> dict[str, tuple[Given, object]]:
    """Return the strongest giving of each field, of groups of equal strength, weakest first.

    Of an option that may be repeated it is all values of the strongest group that has any.
    """
    chosen: dict[str, tuple[Given, object]] = {}
    for group in groups:
        fresh: dict[str, list[object]] = {}
        for one in group:
            field, value = one.option.field, values[id(one)]
            if one.option.repeats:
                value = fresh.setdefault(field, [])
                value.append(values[id(one)])
            chosen[field] = (one, value)
    return chosen


def _take_client_options(
    submission: Submission, parsed: Parsed, chosen: "Mapping[str, tuple[Given, object]]", cwd: str
) -> None:
    if "sync" in chosen:
        submission.sync = _join(cwd, str(chosen["sync"][1] or "."))
    if "stage_in" in chosen and isinstance(paths := chosen["stage_in"][1], list):
        submission.stage_in = [_join(cwd, str(path)) for path in paths]
    submission.wait = parsed.has("wait") and parsed.command == "sbatch"  # srun's --wait is another thing
    submission.parsable = parsed.has("parsable")
    submission.quiet = parsed.has("quiet")
    submission.test_only = parsed.has("test_only")
    submission.verbose = parsed.count("verbose")
    values = {one.option.name.lstrip("-"): one.value or "set" for one in parsed.given}
    submission.options = dict(sorted((values | {"verbose": str(submission.verbose)}).items()))
    submission.cluster = parsed.value("clusters") or ""
    if submission.cluster in OWN_CLUSTERS:
        submission.warnings = [text for text in submission.warnings if not text.startswith("--clusters ")]


def _settle_conflicts(chosen: dict[str, tuple[Given, object]], parsed: Parsed) -> None:
    """Leave one of --mem, --mem-per-cpu and --mem-per-gpu: the strongest source's; two of one source contradict each other."""
    fields = ("memory_mib", "memory_per_cpu_mib", "memory_per_gpu_mib")
    while len(given := [chosen[field][0] for field in fields if field in chosen]) > 1:
        if all(one.source.startswith("--") for one in given):
            raise OptionError(
                "--mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive.", source=given[1].source,
                detail=tuple(one.text for one in given),
            )  # fmt: skip
        del chosen[min(given, key=parsed.given.index).option.field]


def _check_combinations(chosen: "Mapping[str, tuple[Given, object]]") -> None:
    if any(field in chosen for field in CONTAINER_FIELDS) and "container" not in chosen:
        from sshq.slurm.containers import refuse_stray

        raise refuse_stray(chosen)
    begin, deadline = chosen.get("begin_at"), chosen.get("deadline_at")
    if not begin or not deadline or not isinstance(begin[1], float) or not isinstance(deadline[1], float):
        return
    if deadline[1] < begin[1]:
        message = "Incompatible begin and deadline time specification"
        raise OptionError(message, source=deadline[0].source, detail=(begin[0].text, deadline[0].text))


def _take_limits(
    submission: Submission, chosen: "Mapping[str, tuple[Given, object]]", read_limit: "Callable[[str], int] | None"
) -> None:
    """Put the limits that --propagate names into the description, in bytes."""
    names = chosen["propagate"][1] if "propagate" in chosen else None
    if names and read_limit is None:
        submission.warnings.append("--propagate has no effect here: the limits of a shell inside a job are not known")
    elif isinstance(names, list) and names and read_limit is not None:
        submission.description["limits"] = {name: read_limit(name) for name in names}


def _take_nodefile(chosen: dict[str, tuple[Given, object]], read_file: "Callable[[str], bytes]", cwd: str) -> None:
    """Put the nodes that --nodefile lists in the place of --nodelist's: names by blanks, commas and lines, # comments."""
    if "nodefile" not in chosen:
        return
    given, path = chosen["nodefile"]
    from sshq.core.hostlist import expand_hostlist

    try:
        text = read_file(_join(cwd, str(path))).decode("utf-8", "surrogateescape")
        words = [word for line in text.splitlines() for word in line.partition("#")[0].split()]
        names = dict.fromkeys(name for word in words for name in expand_hostlist(word.strip(",")))
        if not names:
            raise ValueError("no node is listed")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise OptionError(
            "Invalid --nodefile node file", source=given.source, detail=(given.text, f"{path}: {why}"), exit_code=255
        ) from None
    chosen["req_nodes"] = (given, ",".join(names))


def _describe(chosen: "Mapping[str, tuple[Given, object]]", cwd: str) -> dict[str, object]:
    values = {field: value for field, (_, value) in chosen.items()}
    description: dict[str, object] = {key: values.get(key) for key in _DESCRIBED}
    tasks, per_node = values.get("num_tasks"), values.get("ntasks_per_node")
    array = values.get("array")
    indices, limit = array if isinstance(array, tuple) else (None, None)
    description |= {
        "kind": "script",
        "work_dir": _join(cwd, str(values.get("work_dir") or "")),
        "submit_dir": cwd,
        "num_nodes": values.get("num_nodes", 1),
        "num_tasks": tasks or per_node or 1,
        "ntasks_given": bool(tasks or per_node),
        "cpus_per_task": values.get("cpus_per_task", 1),
        "cpus_per_task_given": "cpus_per_task" in values,
        "nice": values.get("nice", 0),
        "held": "held" in values,
        "retries": values.get("retries", 0),
        "array": indices,
        "array_limit": limit,
        "kill_on_invalid_dep": values.get("kill_on_invalid_dep", False),
        "exclusive": "exclusive" in values,
        "anywhere": "anywhere" in values,
        "gpus_total": values.get("gpus") or None,
        "gpus_per_node": values.get("gpus_per_node") or values.get("gres") or None,
        "gpus_by_gres": bool(values.get("gres")) and not values.get("gpus_per_node"),
        "gpus_per_task": values.get("gpus_per_task") or None,
        "overcommit": "overcommit" in values,
        "stage_out": values.get("stage_out", []),
    }
    if "container" in values:
        from sshq.slurm.containers import describe_container

        description |= describe_container(values, lambda name: _join(cwd, name))
    return description


def _choose_environment(parsed: Parsed, environ: "Mapping[str, str]", read_file: "Callable[[str], bytes]") -> dict[str, str]:
    from sshq.slurm.environ import filter_submitted_environment, read_export_file

    export_file = parsed.last("export_file")
    if export_file is None:
        return filter_submitted_environment(environ, parsed.value("export"))
    try:
        content = read_file(export_file.value or "")
    except OSError as error:
        raise OptionError(
            "Invalid --export-file specification", source=export_file.source,
            detail=(export_file.text, f"{error.strerror}"), exit_code=255,
        ) from None  # fmt: skip
    # Without --export the file is all there is, as sbatch(1) has it.
    base = filter_submitted_environment(environ, parsed.value("export") or "NONE")
    return base | read_export_file(content.decode("utf-8", "surrogateescape"))


def _settle_nodes(submission: Submission, parsed: Parsed) -> None:
    """Settle how many nodes and tasks there are, where only one of the two was said, or they contradict each other."""
    description = submission.description
    named = _count_hosts(str(description["req_nodes"])) if description["req_nodes"] else 0
    asked = description["num_nodes"] if isinstance(description["num_nodes"], int) else 1
    nodes = max(asked, named)
    tasks, per_node = parsed.has("num_tasks"), description["ntasks_per_node"]
    if tasks and isinstance(description["num_tasks"], int) and description["num_tasks"] < nodes and not named:
        least = description["num_tasks"]
        submission.warnings.append(f"can't run {least} processes on {nodes} nodes, setting nnodes to {least}")
        nodes = least
    elif not tasks:
        description["num_tasks"] = nodes * (per_node if isinstance(per_node, int) and per_node else 1)
    description["num_nodes"] = nodes
    description["nodes_given"] = parsed.has("num_nodes") or named > 1


def _count_hosts(text: str) -> int:
    from sshq.core.hostlist import expand_hostlist  # costs what most calls of sbatch need not pay

    return len(set(expand_hostlist(text)))


def _take_step_options(submission: Submission, parsed: Parsed) -> list[str]:
    """Return what the step on the node is told; output files of single tasks are its business, not the job's."""
    description = submission.description
    spread = description["num_nodes"] != 1 and not parsed.has("num_tasks")  # then it is one a node
    words = [] if spread else [f"--ntasks={description['num_tasks']}"]
    for field, option in (
        ("cpus_per_task", "--cpus-per-task"), ("ntasks_per_node", "--ntasks-per-node"), ("wait", "--wait"),
        ("distribution", "--distribution"), ("cpu_bind", "--cpu-bind"),
    ):  # fmt: skip
        if parsed.has(field):
            words.append(f"{option}={parsed.value(field)}")
    words += [option for field, option in (("label", "--label"), ("multi_prog", "--multi-prog")) if parsed.has(field)]
    if parsed.has("kill_on_bad_exit"):
        words.append(f"--kill-on-bad-exit={parsed.value('kill_on_bad_exit') or 1}")
    for field, option in (("std_out", "--output"), ("std_err", "--error")):
        pattern = str(description[field] or "")
        if "\\" not in pattern and any(part.lstrip("0123456789").startswith("t") for part in pattern.split("%")[1:]):
            words.append(f"{option}={pattern}")
            description[field] = None
            del submission.sources[field]
    return words


def _join(folder: str, name: str) -> str:
    """Return `name` seen from `folder`, without touching the file system: links stay as they are."""
    if name.startswith("/"):
        return name
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return f"{folder.rstrip('/')}/{name}" if name not in ("", ".") else folder


def _read_umask(text: str | None, umask: int) -> int:
    """Return the umask SLURM_UMASK says (octal), else the command's own."""
    digits = text or ""
    return int(digits, 8) if digits and not digits.strip("01234567") and len(digits) <= 4 else umask


def _local_offset(at: float) -> int:
    import time

    return time.localtime(at).tm_gmtoff
