"""Pythons of other versions on the nodes: calls by name run on any from 3.8 on, all else is refused before it is queued."""

import ast
import os
import subprocess
import sys
from glob import glob
from pathlib import Path

import pytest

from bed import REPO

OURS = sys.version_info[:2]


def find_interpreters() -> dict[tuple[int, int], str]:
    """Return one interpreter for each other version that this machine has."""
    found = {}
    for path in sorted(glob(os.path.expanduser("~/.pyenv/versions/*/bin/python")) + glob("/opt/python/*/bin/python")):
        asked = subprocess.run(
            [path, "-c", "import sys; print('%d %d' % sys.version_info[:2])"], capture_output=True, text=True, check=False
        )
        numbers = asked.stdout.split()
        if len(numbers) == 2 and (int(numbers[0]), int(numbers[1])) != OURS:
            found[int(numbers[0]), int(numbers[1])] = path
    return found


@pytest.mark.parametrize("name", ["stub.py", "poolstub.py"])
def test_what_runs_on_nodes_is_written_for_python_3_8(name):
    """Where no such Python is at hand: nothing in it is younger than its grammar and its modules."""
    tree = ast.parse(Path(REPO, "sshq/api", name).read_text(), feature_version=(3, 8))
    imported = {alias.name.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= {
        "base64", "cloudpickle", "hashlib", "io", "json", "os", "pickle", "sys", "tempfile", "time", "traceback", "types", "zipfile",
        "zlib",
    }  # fmt: skip


def test_calls_by_name_run_on_other_versions_and_calls_by_value_are_refused(program):
    others = {version: path for version, path in find_interpreters().items() if version >= (3, 8)}
    if not others:
        pytest.skip("optional: other versions of Python, as pyenv makes them")
    found = program(f"""
        import json, os.path, sshq
        from sshq.errors import RefusedError

        def by_value(x):
            return x

        said = {{}}
        for path in {sorted(others.values())!r}:
            executor = sshq.Executor(time="1:00", python=path)
            raised, large = executor.submit(int, "x"), executor.submit(bytes, 3_000_000)
            arguments = executor.submit(len, bytes(5_000_000))
            said[path] = [executor.submit(os.path.join, "a", "b").result(60), len(large.result(60)), arguments.result(60)]
            try:
                raised.result(60)
            except ValueError as error:
                said[path].append("Traceback" in str(error.__cause__))
            for make in (lambda: executor.submit(by_value, 1), lambda: sshq.Pool(1, python=path)):
                try:
                    make()
                except RefusedError as error:
                    said[path].append(str(error).partition(":")[0])
        print(json.dumps(said))
    """)
    for path in others.values():
        refusal = f"no host of partition lab has a Python {OURS[0]}.{OURS[1]} at {path}"
        assert found[path] == ["a/b", 3_000_000, 5_000_000, True, refusal, refusal]


def test_a_python_that_is_too_old_is_named_before_anything_is_queued(program, shared_lab):
    older = {version: path for version, path in find_interpreters().items() if version < (3, 8)}
    if not older:
        pytest.skip("optional: a version of Python before 3.8, as pyenv makes them")
    found = program(f"""
        import json, sshq
        from sshq.errors import RefusedError
        said = []
        for path in {sorted(older.values())!r}:
            try:
                sshq.Executor(python=path).submit(pow, 2, 3)
            except RefusedError as error:
                said.append([path, str(error), error.__notes__])
        print(json.dumps(said))
    """)
    assert [path for path, _, _ in found] == sorted(older.values())
    for path, text, notes in found:
        assert text.startswith(f"no host of partition lab has a Python 3.8 or newer at {path}: {shared_lab.nodes[0]} has ")
        assert notes == ["    hint: sshq_python in the inventory, python=PATH, or another partition"]
    assert shared_lab.out("squeue", "-h") == ""
