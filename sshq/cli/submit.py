"""sshq submit FILE…: many scripts in one process, all of them or none; a hundred times as fast as a loop around sbatch."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from sshq.api.batch import JOBS_MAX, RefusedBatchError, submit_batch, with_files
from sshq.api.proof import leave_own
from sshq.cli import here
from sshq.cli.asking import UNREACHABLE_PREFIX, NoAnswerError
from sshq.cli.own import UsageMistakeError
from sshq.cli.printing import print_lines, print_messages, print_warnings
from sshq.cli.submitting import place_in_words
from sshq.errors import OptionError, RefusedError, SshqError, UnreachableError, UserError
from sshq.slurm.getopt import Given, Parsed, judge_handling, scan_words
from sshq.slurm.many import Many, Prepared, split_parts
from sshq.slurm.messages import SUBMITTED
from sshq.slurm.options import options_of
from sshq.slurm.options_submit import OWN_FIELDS
from sshq.slurm.values import Clock, read_value
from sshq.wire.client import Client, connect

PROGRAM = "sshq submit"
FAULTS_TOLD = 20

# One job to be: its name in messages, and what reads it.
Source = tuple[str, Callable[[Many], Prepared]]


def run(argv: Sequence[str]) -> int:
    """Run `sshq submit`; 0: all were submitted, 1: none, 2: the command line cannot be right."""
    parsed, words = _read_command_line(argv)
    if parsed.has("help"):
        from sshq.slurm.help import describe_help

        sys.stdout.write(describe_help(PROGRAM))
        return 0
    print_warnings(PROGRAM, judge_handling(parsed))
    sources: list[Source] = []
    faults: list[tuple[str, SshqError]] = []
    try:
        read = with_files(_read_all(_list_sources(parsed), words, sources, faults), _connect, here.place.environ)
        taken = submit_batch(_connect, split_parts(read))
    except _FaultsError:
        return _tell_faults(faults, len(sources))
    except RefusedBatchError as error:
        told = {number: one for number, one in error.refusals.items() if number < len(sources)}
        found = [(sources[n][0], _place(one, sources[n], words)) for n, one in list(told.items())[:FAULTS_TOLD]]
        return _tell_faults(found, len(sources), error.count)
    except UnreachableError as error:
        raise NoAnswerError(error, UNREACHABLE_PREFIX["sbatch"].replace("sbatch", PROGRAM)) from None
    if not parsed.has("quiet"):
        notes = here.place.describe_notes(taken.notes, {"work_dir": here.place.find_cwd()})
        print_messages(f"{PROGRAM}: {note}" for note in notes)
    if parsed.has("parsable"):
        print_lines(map(str, taken.job_ids))
    elif not parsed.has("quiet"):
        print_lines(SUBMITTED.format(job_id=job_id) for job_id in taken.job_ids)
    if not parsed.has("wait"):
        return 0
    sys.stdout.flush()
    from sshq.cli.waiting import exit_status, wait_for_jobs

    return max((exit_status(job) for job in wait_for_jobs("sshq", list(taken.job_ids), os.environ)), default=1)


def _connect() -> Client:
    return connect(os.environ)


def _read_command_line(argv: Sequence[str]) -> tuple[Parsed, list[str]]:
    """Return what was given, and sbatch's options of it as words."""
    try:
        given, arguments = scan_words(PROGRAM, options_of(PROGRAM), argv, permute=True)
        clock = Clock(time.time(), lambda at: time.localtime(at).tm_gmtoff)
        for one in given:
            read_value(one, clock, PROGRAM)
    except OptionError as error:
        error.exit_code = UsageMistakeError.exit_code
        raise
    parsed = Parsed(PROGRAM, given, arguments)
    places = [*arguments, parsed.value("files_from"), parsed.value("commands_from")]
    if places == [None, None] and not parsed.has("help"):
        raise UsageMistakeError("no script is named", hint="sshq submit FILE…, --files-from FILE or --commands-from FILE")
    if places.count("-") > 1:
        raise UsageMistakeError("standard input can be read once only", hint="- may stand in one place")
    return parsed, [_spell(one) for one in given if one.option.field not in OWN_FIELDS]


def _spell(one: Given) -> str:
    return one.option.name if one.value is None else f"{one.option.name}={one.value}"


def _list_sources(parsed: Parsed) -> Iterator[Source]:
    """Yield the jobs to be, in the order in which they get their numbers: files, then --files-from, then --commands-from."""
    lists = [parsed.value(field) for field in ("files_from", "commands_from")]
    yield from map(_file, parsed.arguments)
    if lists[0] is not None:
        yield from (_file(line.rstrip("\n")) for _, line in _read_list(lists[0]) if line.strip())
    if lists[1] is not None:
        name = "standard input" if lists[1] == "-" else lists[1]
        for number, line in _read_list(lists[1]):
            if line.strip() and not line.lstrip().startswith("#"):
                yield _command(f"{name}:{number}", line.strip())


def _file(path: str) -> Source:
    if path == "-":
        return "standard input", lambda many: many.read_text(here.place.read_stdin())
    return path, lambda many: many.read_path(path, path, search=False)


def _command(place: str, command: str) -> Source:
    return place, lambda many: many.read_command(command)


def _read_list(path: str) -> Iterable[tuple[int, str]]:
    try:
        data = here.place.read_stdin() if path == "-" else here.place.read_file(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    return enumerate(data.decode("utf-8", "surrogateescape").splitlines(), 1)


class _FaultsError(Exception):
    """Some scripts cannot be right."""


def _prepare(words: list[str]) -> Many:
    place = here.place
    return Many(
        words, place.environ, read_file=place.read_file, now=time.time(), umask=place.umask, cwd=place.find_cwd(),
        submit_host=place.host_name, read_limit=place.read_limit, choose_environ=leave_own,
        describe_origin=place.describe_origin,
    )  # fmt: skip


def _read_all(
    found: Iterable[Source], words: list[str], sources: list[Source], faults: list[tuple[str, SshqError]]
) -> Iterator[Prepared]:
    """Yield what each asks for and note it in `sources`; go on after a fault, so that all are told, and raise at the end."""
    many = _prepare(words)
    for source in found:
        sources.append(source)
        if len(sources) > JOBS_MAX:
            raise UserError(
                f"more than {JOBS_MAX} at once", detail=("all are submitted or none, so there is a bound",),
                hint=f"xargs -n {JOBS_MAX} sshq submit; equal jobs are an array: sbatch --array",
            )  # fmt: skip
        try:
            one = source[1](many)
        except OptionError as error:
            faults.append((source[0], error))
        else:
            one.own["submit_line"] = " ".join((PROGRAM, *words, source[0]))[:4096]
            if not faults:
                yield one
    if faults:
        raise _FaultsError


def _place(error: RefusedError, source: Source, words: list[str]) -> RefusedError:
    """Return a refusal with the user's own words, read from that very script."""
    try:
        return place_in_words(error, source[1](_prepare(words)).base, "sbatch")
    except SshqError:  # standard input was read before; a file may have changed
        return error


def _tell_faults(faults: Sequence[tuple[str, SshqError]], count: int, wrong: int | None = None) -> int:
    wrong = len(faults) if wrong is None else wrong
    for name, error in faults[:FAULTS_TOLD]:
        text = error.render(PROGRAM).rstrip("\n")
        named = text if name in text else f"{text}\n    in {name}"
        print_messages([named.replace("sbatch: error: ", f"{PROGRAM}: error: ")])
    more = f", of which these are the first {FAULTS_TOLD}," if wrong > FAULTS_TOLD else ""
    print_messages([f"{PROGRAM}: error: {wrong} of {count}{more} cannot be submitted: none was"])
    return 1
