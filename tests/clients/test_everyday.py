"""Twelve scripts as users write them, run unchanged on hosts behind real sshds, against what Slurm made of them (`everyday.py`)."""

from pathlib import Path

import everyday
import pytest

from bed import Instance


@pytest.fixture(scope="module")
def came_of_them(loopback) -> dict[str, str]:
    with Instance() as instance:
        instance.write_config("kill_wait: 2s\n")
        instance.use(loopback.hosts, sshq_slots=8, sshq_cpus=8, sshq_memory="4G")
        instance.up()
        instance.ready()
        instance.out("shims", f"{instance.dir}/shims")
        env = {name: value for name, value in instance.env.items() if name not in ("PYTHONPATH", "SSHQ_HOME")}
        return everyday.run_all(Path(instance.work, "everyday"), env | {"PATH": f"{instance.dir}/shims:{env['PATH']}"})


@pytest.mark.parametrize("script", everyday.SUBMISSIONS)
def test_a_script_of_everyday_does_what_it_does_under_slurm(came_of_them, script):
    assert came_of_them[script] == (everyday.SCRIPTS / "expected" / f"{script}.txt").read_text()
