"""Start-up time as a promise about modules, not about a stopwatch: what each command must not have imported at its end."""

import json
import subprocess
import sys

import pytest

from sshq.cli.main import OWN_VERBS, SLURM_VERBS

from .conftest import make_job

HEAVY = {
    "asyncio", "asyncssh", "paramiko", "sqlite3", "yaml", "tabulate", "textual", "logging", "importlib.metadata", "ssl",
    "sshq.store", "sshq.transport", "sshq.runner", "sshq.controller", "sshq.inventory",
}  # fmt: skip
LEAN = HEAVY | {"click", "argparse", "subprocess", "threading", "inspect", "typing", "socket", "selectors", "shutil", "tempfile"}

PROBE = """\
import json, sys
from sshq.cli.main import main
before = set(sys.modules)
code = main(sys.argv[1:])
sys.stdout.flush()
open("modules.json", "w").write(json.dumps([code, sorted(sys.modules)]))
"""


def modules_of(place, *words, flags=("-I", "-S")):
    program = f"import sys; sys.path.insert(0, {place.env['PYTHONPATH']!r})\n{PROBE}"
    subprocess.run(
        [sys.executable, *flags, "-c", program, *words], cwd=place.work, env=place.env, stdin=subprocess.DEVNULL,
        capture_output=True, check=True,
    )  # fmt: skip
    code, modules = json.load(open(f"{place.work}/modules.json"))
    return code, set(modules)


@pytest.fixture
def answering(controller):
    results = {"results": []}
    controller.answers |= {
        "submit": {"job_id": 1, "notes": []}, "jobs": [make_job()], "history": [make_job()], "cancel": results, "hold": results,
        "info": {"nodes": [], "partitions": []}, "update_job": results,
    }  # fmt: skip
    return controller


def test_sbatch_imports_next_to_nothing(place, answering):
    code, modules = modules_of(place, "sbatch", "--wrap", "true")
    assert code == 0
    assert modules & (LEAN | {"dataclasses", "datetime", "pwd"}) == set()
    code, modules = modules_of(place, "sbatch", "-t", "10", "--mem", "1G", "-c", "2", "-J", "x", "--wrap", "true")
    assert code == 0
    assert modules & ((LEAN - {"typing"}) | {"dataclasses", "datetime", "pwd"}) == set()


# The others render tables, whose fields are typed classes; what they must do without stays the same.
@pytest.mark.parametrize(
    "words",
    [
        ["squeue"], ["squeue", "-j", "1"], ["sinfo"], ["scancel", "1"], ["sacct"], ["scontrol", "show", "job", "1"],
        ["scontrol", "hold", "1"], ["sbatch", "-a", "0-3", "--begin=now+1hour", "--wrap", "true"],
    ],
)  # fmt: skip
def test_slurms_verbs_import_nothing_heavy_and_no_click(place, answering, words):
    code, modules = modules_of(place, *words)
    assert code == 0
    assert modules & (HEAVY | {"click", "argparse", "subprocess", "threading", "socket", "shutil"}) == set()


@pytest.mark.parametrize("verb", SLURM_VERBS)
def test_slurms_verbs_need_only_the_standard_library(place, verb):
    code, _ = modules_of(place, verb, "--help")  # -S: no site-packages to be found
    assert code == 0


@pytest.mark.parametrize("verb", [verb for verb in OWN_VERBS if verb != "help"])
def test_our_own_verbs_import_nothing_heavy_to_show_their_help(place, verb):
    _, modules = modules_of(place, verb, "--help", flags=())
    # click itself imports some of the small ones.
    assert modules & (HEAVY - {"logging", "importlib.metadata", "ssl", "asyncio"}) == set()
