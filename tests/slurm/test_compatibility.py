"""The compatibility page is what the tables say."""

from pathlib import Path

import sshq.slurm
from sshq.cli.scontrol import _VERBS
from sshq.slurm.compatibility import describe_compatibility
from sshq.slurm.options import options_of
from sshq.slurm.scontrol import SUPPORTED, VERBS

PAGE = Path(sshq.slurm.__file__).with_name("COMPATIBILITY.md")


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == describe_compatibility(), "python -m sshq.slurm.compatibility > sshq/slurm/COMPATIBILITY.md"


def test_every_option_has_its_line():
    text = describe_compatibility()
    for command in ("sbatch", "srun", "salloc", "squeue", "scancel", "sinfo", "sacct", "scontrol"):
        part = text.split(f"## {command}\n")[1].split("\n## ")[0]
        assert part.count("\n| `") == len(options_of(command))
        assert all(f"`{row.name}`" in part for row in options_of(command))


def test_the_verbs_of_scontrol_are_those_that_work():
    assert set(SUPPORTED) == {*_VERBS, "quit", "exit"}
    assert set(SUPPORTED) <= set(VERBS)
