"""The programs in contrib/examples, run as they stand: a directory of the user's, real hosts, exact output where it is exact."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "contrib" / "examples"


@pytest.fixture
def folder(shared_lab) -> Path:
    target = Path(shared_lab.work, "examples")
    if not target.exists():
        shutil.copytree(EXAMPLES, target)
    return target


@pytest.fixture
def run(shared_lab, folder):
    def run_example(name: str, *args: str) -> str:
        done = subprocess.run(
            [sys.executable, name, *args], cwd=folder, env=shared_lab.env, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{shared_lab.logs()}"
        return done.stdout

    return run_example


def test_square(run):
    assert re.fullmatch(r"49 from job \d+ on l\d\nsquaring 7\n2470\n", run("square.py"))


def test_pool_pi(run):
    lines = run("pool_pi.py", "3", "100").splitlines()
    assert [line.split()[0] for line in lines] == ["50", "100"]
    assert abs(float(lines[-1].split()[-1]) - 3.1416) < 0.02


def test_crossval(run):
    if importlib.util.find_spec("numpy") is None:
        pytest.skip("pip install numpy")
    lines = run("crossval.py", "3").splitlines()
    assert len(lines) == 5
    assert re.fullmatch(r"penalty +\d+\.\d+: mean squared error \d+\.\d{4}", lines[0])


def test_notebook(run):
    text = run("notebook.py")
    assert text == (
        "COMPLETED 12.0\nCOMPLETED 13.0\nFAILED ValueError('-1 has no real root')\ncause: ValueError: -1 has no real root\n"
    )


def test_cells_typed_into_an_interpreter(shared_lab, folder):
    """As a notebook's kernel has them: functions of a `__main__` that is no file."""
    cells = (folder / "notebook.py").read_text()
    code = "import code\nconsole = code.InteractiveInterpreter(vars(__import__('__main__')))\n"
    code += "\n".join(f"console.runsource({'#' + cell!r}, symbol='exec')" for cell in cells.split("# %%")[1:])
    done = subprocess.run(
        [sys.executable, "-"], input=code, cwd=folder, env=shared_lab.env, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stdout.splitlines()[:2] == ["COMPLETED 12.0", "COMPLETED 13.0"], done.stderr


def test_sweep(run):
    lines = run("sweep.py").splitlines()
    assert sorted(re.sub(r"l\d,", "X,", line) for line in lines[:3]) == [
        f"{n} epochs: COMPLETED on X, last line: epoch {n}" for n in (1, 2, 3)
    ]
    assert re.fullmatch(r"COMPLETED all of \d+:\d+:\d+ are done", lines[3])


def test_plain_scripts(shared_lab, folder):
    train = shared_lab.submit("train.sh", "2", cwd=str(folder))
    array = shared_lab.submit("array.sh", cwd=str(folder))
    shared_lab.run("wait", str(train), str(array))
    assert (folder / f"train-{train}.out").read_text().splitlines()[-2:] == ["epoch 1", "epoch 2"]
    assert (folder / f"array-{array}_3.out").read_text() == "task 3 of 8 greets dora\n"


def test_every_example_is_run_here_and_named_in_its_readme():
    text, readme = Path(__file__).read_text(), (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.name != "README.md" and not path.name.startswith("__"):
            assert f'"{path.name}' in text, path
            assert f"[{path.name}]({path.name})" in readme, path
