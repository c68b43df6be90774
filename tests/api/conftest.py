"""Programs that use the Python interface as users do: files of their own, run by a process of their own."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def shared_lab(loopback):
    """One instance on loopback hosts, which see the submit directory, for all tests of a file."""
    import bed as beds

    with beds.Instance() as made:
        made.write_config("kill_wait: 2s\n")
        made.use(loopback.hosts[:2], sshq_slots=4, sshq_cpus=4, sshq_memory="4G")
        made.up()
        made.ready()
        yield made


@pytest.fixture
def program(shared_lab) -> Callable[..., object]:
    """`program(text)`: run it on the loopback hosts; what it prints last is JSON."""

    def run(text: str, **kwargs: object) -> object:
        return run_program(shared_lab, text, **kwargs)

    return run


def run_program(instance, text: str, *, check: bool = True, name: str = "client.py") -> object:
    file = Path(instance.work, name)
    file.write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, file], cwd=instance.work, env=instance.env, capture_output=True, text=True, timeout=100, check=False
    )
    if not check:
        return done
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{instance.logs()}"
    return json.loads(done.stdout.splitlines()[-1])
