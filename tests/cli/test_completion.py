"""sshq completion: what a shell offers after Tab is what the tables hold."""

import subprocess

import pytest

from sshq.cli.main import OWN_VERBS, SLURM_VERBS
from sshq.slurm.options import REFUSED, options_of


@pytest.fixture(scope="module")
def scripts():
    from sshq.cli import completion

    found = {}
    for shell in completion.SHELLS:
        import contextlib
        import io

        with contextlib.redirect_stdout(io.StringIO()) as out:
            assert completion.run([shell]) == 0
        found[shell] = out.getvalue()
    return found


def complete(script, line, tmp_path):
    """What bash offers at the end of a line; sshq itself is a program that names jobs 11 and 12."""
    stub = tmp_path / "sshq"
    stub.write_text("#!/bin/sh\necho 11; echo 12\n")
    stub.chmod(0o755)
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    program = f"{script}\nCOMP_WORDS=({quoted})\nCOMP_CWORD={len(words) - 1}\n_sshq\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["bash", "--norc", "-c", program], capture_output=True, text=True, env=env, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize("command", SLURM_VERBS)
def test_bash_offers_every_option_that_works(scripts, command, tmp_path):
    wanted = {option.longs[0] for option in options_of(command) if option.longs and option.handling != REFUSED}
    assert set(complete(scripts["bash"], f"{command} --", tmp_path)) == wanted
    assert set(complete(scripts["bash"], f"sshq {command} --", tmp_path)) == wanted


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("sshq sb", {"sbatch"}),
        ("scancel ", {"11", "12"}),
        ("sshq logs 1", {"11", "12"}),
        ("squeue --jobs = 1", {"11", "12"}),
        ("sbatch -p ", {"11", "12"}),
        ("squeue -t RUN", {"RUNNING"}),
        ("scontrol rel", {"release"}),
        ("scontrol release ", {"11", "12"}),
        ("sshq up --inv", {"--inventory"}),
        ("sbatch job", set()),
    ],
)
def test_bash_offers_words(scripts, line, offered, tmp_path):
    assert set(complete(scripts["bash"], line, tmp_path)) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_can_read_its_script(scripts, shell, need, tmp_path):
    file = tmp_path / "script"
    file.write_text(scripts[shell])
    done = subprocess.run([need(shell), "-n", str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(verb in scripts[shell] for verb in (*SLURM_VERBS, *OWN_VERBS))


def test_another_shell_is_refused():
    from sshq.cli import completion
    from sshq.cli.own import UsageMistakeError

    with pytest.raises(UsageMistakeError, match="ksh"):
        completion.run(["ksh"])
