"""contrib/chaos/COVERAGE.md names a test for every row of the failure table; here it is checked that it says the truth."""

import ast
import re
from functools import cache
from pathlib import Path

from bed import REPO

TABLE = Path(REPO, "contrib/chaos/COVERAGE.md")
NOT_PROVED = "*not proved*"
# The failure table of the plan, row by row: none may be dropped from the page.
STEPS = ["P0", "P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "P11, P12", "P13", "P14", "P15", "P16", "P17", "Restore"]
FAILURES = """
Ambiguous launch timeout; Head reboot / power cut; Two controllers; Disk full on head; Disk full on node / quota; SQLite corruption;
fsync error (EIO); Cut 5 s; Cut 10 min; Cut forever; Half-open TCP; sshd restart / upgrade; Node reboot; Clock skew, jump; PID reuse;
OOM kills job; OOM / user kills shim; kill -9 -1 by user; Launcher killed or stopped; Spool deleted; tmp cleaner (30 d in /var/tmp);
NFS home hangs; Noisy login shell; Fork bomb; Output floods disk; Host key changed; Our key revoked; Inventory edited badly;
Host removed with jobs; Host renamed / duplicate address; Address now another machine; Ignores SIGTERM; Unkillable (D state);
setsid escapees; Cancel vs launch; Cancel vs exit; 100k jobs; Slow or silent client; Bad frames;
Hostile names, env, paths, array ids, %-patterns; Symlink / pre-created spool; Reading others' scripts, env, output;
Log / terminal injection
"""


def rows() -> dict[str, str]:
    """First column to second, of all tables of the page."""
    cells = [line.strip("| ").split(" | ", 1) for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    return {row[0].strip(): row[1].strip() for row in cells if len(row) == 2}


@cache
def names_in(path: str) -> frozenset[str]:
    file = Path(REPO, path)
    if not file.is_file():
        return frozenset()
    return frozenset(node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_row_of_the_failure_table_is_there():
    names = set(rows())
    assert not [name.strip() for name in FAILURES.replace("\n", " ").split(";") if name.strip() not in names]
    assert not [step for step in STEPS if not any(name.startswith(f"{step} ") or name == step for name in names)]


def test_each_row_names_its_tests_or_says_that_nothing_proves_it():
    told = {name: text for name, text in rows().items() if name not in ("Step", "Failure", "Promise")}
    assert not [name for name, text in told.items() if not re.search(r"`tests/[\w/.]+\.py::test_\w+`", text) and NOT_PROVED not in text]


def test_every_named_test_exists():
    named = re.findall(r"`(tests/[\w/.]+\.py)::(\w+)`", TABLE.read_text())
    assert len(named) > 60
    assert not [f"{path}::{name}" for path, name in named if name not in names_in(path)]
    assert all(name.startswith("test_") for _, name in named)
