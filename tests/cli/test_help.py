"""Every command has help, a version, and a place in the overview."""

import pytest

from sshq import __version__
from sshq.cli.main import OWN_VERBS, SLURM_VERBS


@pytest.mark.parametrize("verb", [*SLURM_VERBS, *OWN_VERBS])
def test_each_command_has_help(sshq, verb):
    done = sshq("help", verb)
    assert (done.returncode, done.stderr) == (0, "")
    assert verb in done.stdout
    if verb not in ("help", "version"):
        assert done.stdout == sshq(verb, "--help").stdout
        assert done.stdout.startswith("Usage: ")


@pytest.mark.parametrize("verb", [v for v in OWN_VERBS if v not in ("help", "version")] + list(SLURM_VERBS))
def test_the_overview_names_each_command(sshq, verb):
    assert f"  {verb} " in sshq("help").stdout or f" {verb} " in sshq("help").stdout


@pytest.mark.parametrize("verb", SLURM_VERBS)
def test_slurms_verbs_say_which_slurm_they_copy(sshq, verb):
    for option in ("--version", "-V"):
        done = sshq(verb, option)
        assert (done.returncode, done.stdout, done.stderr) == (0, "slurm 22.05.8\n", "")


def test_sshq_says_its_own_version(sshq):
    for words in (["version"], ["--version"], ["-V"]):
        assert sshq(*words).stdout == f"sshq {__version__}\n"


def test_no_words_at_all_give_the_overview(sshq):
    assert sshq().stdout == sshq("--help").stdout == sshq("help").stdout


def test_what_becomes_of_each_option_is_listed(sshq):
    text = sshq("help", "options").stdout
    assert "--switches" in text and "--array" in text


def test_long_options_may_be_shortened_while_they_are_unique(sshq):
    assert sshq("status", "--js").stderr.startswith("sshq: error: Unable to contact")
    assert sshq("up", "--s").returncode == 2
