"""Our reading of an inventory against the real `ansible-inventory --list`: hosts, groups and variables are equal."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sshq.errors import InventoryError
from sshq.inventory.ansible import OsFiles, read_tree
from sshq.inventory.load import load_inventory
from sshq.inventory.tree import as_ansible_list

HERE = Path(__file__).parent
EXAMPLE = HERE.parent.parent / "inventory.example.yaml"
CORPUS = HERE / "corpus"
SOURCES = [EXAMPLE, *sorted(CORPUS.glob("*.yaml")), CORPUS / "adjacent" / "inventory.yaml", CORPUS / "directory"]


def find_ansible() -> str | None:
    beside = os.path.join(os.path.dirname(sys.executable), "ansible-inventory")
    return beside if os.path.exists(beside) else shutil.which("ansible-inventory")


def ask_ansible(command: str, source: Path, home: Path) -> object:
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8", "ANSIBLE_DEPRECATION_WARNINGS": "0"}
    env |= {"ANSIBLE_CONFIG": str(home / "ansible.cfg"), "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1"}
    run = subprocess.run([command, "-i", str(source), "--list"], env=env, capture_output=True, text=True, cwd=home, timeout=60)
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    answer["_meta"].pop("profile", None)  # since 2.19
    return answer


@pytest.mark.slow  # a second each
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(HERE.parent.parent)))
def test_ansible_means_the_same(source: Path, tmp_path: Path) -> None:
    command = find_ansible()
    if command is None:
        pytest.skip("ansible-inventory is missing: pip install ansible-core")
    (tmp_path / "ansible.cfg").touch()  # nobody's own settings
    ours = json.loads(json.dumps(as_ansible_list(read_tree(str(source), OsFiles()))))
    assert ours == ask_ansible(command, source, tmp_path)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_every_inventory_of_the_corpus_loads(source: Path) -> None:
    try:
        inventory = load_inventory(str(source))
    except InventoryError as error:
        assert "cannot be the name of a node" in error.message and source.name == "unicode.yaml"
    else:
        assert inventory.hosts and inventory.partitions["lab"].hosts == tuple(inventory.hosts)


def test_hidden_and_backup_files_are_left_out(tmp_path: Path) -> None:
    shutil.copytree(CORPUS / "adjacent", tmp_path / "a")
    before = load_inventory(str(tmp_path / "a" / "inventory.yaml"))
    for name in (".hidden.yml", "30.yml~", "50.txt"):
        (tmp_path / "a" / "group_vars" / "gpu" / name).write_text("sshq_slots: 99\n")
    assert load_inventory(str(tmp_path / "a" / "inventory.yaml")).hosts == before.hosts
