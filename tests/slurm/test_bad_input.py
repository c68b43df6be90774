"""Bad words on the command line of every command: Slurm's first line, its exit status, then place and hint.

What the controller refuses (unknown ids, users, nodes) is in the recordings that tests/differential replays.
"""

import pytest

from sshq.errors import OptionError
from sshq.slurm.getopt import parse_options
from sshq.slurm.options import NO_VALUE, REFUSED, REQUIRED, options_of
from sshq.slurm.sacct import read_sacct_options
from sshq.slurm.scancel import read_scancel_options
from sshq.slurm.scontrol import find_entity, find_verb, parse_update
from sshq.slurm.sinfo import read_sinfo_options
from sshq.slurm.squeue import read_squeue_options, render_squeue

from .recordings import JOBS, NOW, UID

COMMANDS = ("sbatch", "srun", "salloc", "squeue", "scancel", "sinfo", "sacct", "sstat", "sprio", "scontrol")
LISTED = [(command, option) for command in COMMANDS for option in options_of(command)]
USERS = {"recuser": UID, "root": 0}


def fail(call, program):
    with pytest.raises(OptionError) as caught:
        call()
    return caught.value.render(program).splitlines(), caught.value.exit_code


def status_of(command):
    return 255 if command == "sbatch" else 1


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--no-such"], "unrecognized option '--no-such'"),
        (["--no-such=1"], "unrecognized option '--no-such=1'"),
        (["-%"], "invalid option -- '%'"),
    ],
)
def test_unknown_options(command, words, text):
    lines, status = fail(lambda: parse_options(command, words), command)
    assert (lines[0], status) == (f"{command}: {text}", status_of(command))
    assert command == "sacct" or lines[1] == f'Try "{command} --help" for more information'


@pytest.mark.parametrize(("command", "option"), LISTED, ids=lambda value: getattr(value, "name", value))
def test_values_that_are_missing_or_too_many(command, option):
    if option.takes == REQUIRED:
        for name in option.longs:
            lines, status = fail(lambda name=name: parse_options(command, [name]), command)
            assert (lines[0], status) == (f"{command}: option '{name}' requires an argument", status_of(command))
        if option.short:
            lines, status = fail(lambda: parse_options(command, [option.short]), command)
            assert lines[0] == f"{command}: option requires an argument -- '{option.short[1]}'"
    if option.takes == NO_VALUE:
        for name in option.longs:
            lines, status = fail(lambda name=name: parse_options(command, [f"{name}=1"]), command)
            assert (lines[0], status) == (f"{command}: option '{name}' doesn't allow an argument", status_of(command))


@pytest.mark.parametrize(("command", "option"), LISTED, ids=lambda value: getattr(value, "name", value))
def test_refused_options_say_what_they_would_change(command, option):
    if option.handling != REFUSED:
        return
    words = [option.name] if option.takes == NO_VALUE else [f"{option.name}=1"]
    lines, status = fail(lambda: parse_options(command, words), command)
    assert lines[0].startswith(f"{command}: error: {option.name} is not supported by sshq")
    assert (lines[1].strip(), status) == (words[0], 1)


def squeue(*argv):
    return lambda: list(render_squeue(JOBS, read_squeue_options(argv, {}, me="recuser", lookup_uid=USERS.get), NOW).lines)


def sacct(*argv):
    return lambda: read_sacct_options(argv, {}, now=NOW, me="recuser", lookup_uid=USERS.get)


def scancel(*argv):
    return lambda: read_scancel_options(argv, {}, me="recuser", lookup_uid=USERS.get)


def sinfo(*argv):
    return lambda: read_sinfo_options(argv, {})


@pytest.mark.parametrize(
    ("program", "call", "line"),
    [
        ("squeue", squeue("-j", "abc"), "squeue: error: Invalid job id: abc"),
        ("squeue", squeue("-s", "abc"), "squeue: error: Invalid job id: abc"),
        ("squeue", squeue("word"), "squeue: error: Unrecognized option: word"),
        ("squeue", squeue("-i", "x"), "squeue: error: --iterate=x"),
        ("squeue", squeue("-i", "0"), "squeue: error: --iterate=0"),
        ("squeue", squeue("-w", "n[1-"), "squeue: error: Invalid node list: n[1-"),
        ("squeue", squeue("-o", "%i", "-O", "jobid"), "squeue: error: -O (--Format) is incompatible with -o (--format)"),
        ("sinfo", sinfo("-t", "nosuch"), 'sinfo: error: Bad state string: "nosuch"'),
        ("sinfo", sinfo("-i", "x"), "Error: invalid entry for --iterate=x"),
        ("sinfo", sinfo("-i", "0"), "Error: invalid entry for --iterate=0"),
        ("sinfo", sinfo("-n", "n[1-"), "sinfo: error: 'n[1-' invalid entry for --nodes"),
        ("sacct", sacct("-j", "abc"), "sacct: fatal: Bad job/step specified: abc"),
        ("sacct", sacct("-s", "nosuch"), "sacct: fatal: unrecognized job state value 'nosuch'"),
        ("sacct", sacct("-o", "NoSuch"), 'sacct: error: Invalid field requested: "NoSuch"'),
        ("sacct", sacct("-u", "nosuchuser"), "sacct: error: Invalid user id: nosuchuser"),
        ("sacct", sacct("--units=Q"), "sacct: error: Invalid units: Q"),
        ("sacct", sacct("-i", "many"), "sacct: error: Invalid range: many"),
        ("sacct", sacct("-K", "10"), "sacct: fatal: Can't use --timelimit-max without also using --timelimit-min"),
        ("sacct", sacct("-k", "10", "-K", "5"), "sacct: fatal: Maximum time limit is less than the minimum."),
        ("sacct", sacct("-S", "now", "-E", "now-1hour"), "sacct: fatal: Start time (2026-11-22T17:09:54) requested is after end time"),
        ("scancel", scancel("abc"), "scancel: error: Invalid job id abc"),
        ("scancel", scancel(), "scancel: error: No job identification provided"),
        ("scancel", scancel("-t", "nosuch"), "Invalid job state specified: nosuch"),
        ("scancel", scancel("-u", "nosuchuser"), "scancel: error: Invalid user name: nosuchuser"),
        ("scancel", scancel("-s", "NOSIG", "1"), "Unknown job signal: NOSIG"),
        ("scontrol", lambda: find_verb("frobnicate"), "invalid keyword: frobnicate"),
        ("scontrol", lambda: find_entity("nosuch"), "invalid entity:nosuch for keyword:show "),
        ("scontrol", lambda: parse_update(["jobid=1", "NoSuch=1"], NOW), "Update of this parameter is not supported: NoSuch=1"),
        ("scontrol", lambda: parse_update([], NOW), "No valid entity in update command"),
    ],
)  # fmt: skip
def test_wrong_values(program, call, line):
    lines, status = fail(call, program)
    assert lines[0].startswith(line)
    assert status == 1
