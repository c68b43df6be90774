"""sshq help: all commands in one screen; `sshq help CMD` is `sshq CMD --help`."""

import sys
from collections.abc import Sequence

from sshq import __version__
from sshq.cli.main import OWN_VERBS, SLURM_VERBS
from sshq.cli.own import UsageMistakeError

OVERVIEW = f"""\
sshq {__version__}: a batch queue over plain sshd that feels like Slurm

Usage: sshq COMMAND [OPTIONS] [ARGUMENTS]

The queue
  up            start the controller, say what it took on
  down          stop it; jobs run on
  status        how it is
  stats         how it fares: times, load, and what each host is asked for
  doctor        why a host cannot be used, and what to do
  shared        which hosts share a directory with the head, and how that is known
  inventory     check the inventory, show hosts and partitions
  hosts         trust HOST…: record host keys; retry [HOST…]: connect now; remove HOST --purge
  config        settings and where they come from
  purge         take ended jobs out of the queue
  restore       put a backup in the place of a lost store
  rebuild       make a lost store anew from what the hosts hold
  completion    completion for bash, zsh or fish
  shims         write sbatch, squeue, … into a directory for PATH
  relay         what SSHQ_HEAD=user@head on another machine starts on the head

Jobs, as with Slurm
  sbatch        submit a script            squeue      what is queued and running
  scancel       end or signal jobs         sinfo       hosts and partitions
  sacct         what has run               sstat       what running steps use
  sprio         who comes first            scontrol    look closely, hold, release, update
  srun          run a command, see its output
  salloc        hold nodes, run a command here meanwhile

Jobs, beyond Slurm
  submit        many scripts at once, all or none
  logs          a job's output, live       wait        stay until jobs are over
  why           what a job waits for       fetch       from another machine: bring output here
  show          a job on one page;         reproduce   submit a job of the past once more
                where it came from
  cp            copy files out of a job's directory on its host

sshq COMMAND --help says more; sshq help options lists what becomes of each option of Slurm;
sshq version says which sshq this is.
"""


def run(argv: Sequence[str]) -> int:
    """Print the overview, or the help of one command."""
    if not argv:
        sys.stdout.write(OVERVIEW)
        return 0
    name = argv[0]
    if name == "options":
        from sshq.slurm.help import describe_command

        sys.stdout.write("\n".join(describe_command(verb, "help") for verb in SLURM_VERBS))
        return 0
    if name in ("-h", "--help", "help", "version"):
        sys.stdout.write(OVERVIEW)
        return 0
    if name not in SLURM_VERBS and name not in OWN_VERBS:
        raise refuse_command(name)
    from sshq.cli.main import main

    return main([name, "--help"])


def refuse_command(name: str) -> UsageMistakeError:
    """Return the error for a command that does not exist, with the nearest one that does."""
    import difflib

    near = difflib.get_close_matches(name, [*SLURM_VERBS, *OWN_VERBS], n=1)
    hint = f"sshq {near[0]}" if near else "sshq help"
    return UsageMistakeError(f"no such command: {name}", hint=hint)
