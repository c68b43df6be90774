"""What is kept of a host for its launches: equal hosts are one text, and what changes by itself is not in it."""

import json
from dataclasses import replace

from sshq.core.gpus import Gpu
from sshq.core.hostfacts import describe_host
from sshq.core.model import NodeFacts

FACTS = NodeFacts(
    cpus=8, memory_mib=32000, arch="x86_64", os="Debian 12", kernel="6.1", sockets=1, cores=4, threads=2, cpu_model="Ryzen 7",
    gpus=(Gpu(id="GPU-1", index=0, name="A100", memory_mib=40960), Gpu(id="GPU-2", index=1, name="A100", memory_mib=40960)),
    gpu_driver="nvidia 535.54.03", python="/usr/bin/python3 Python 3.11.2", engines=("podman",),
)  # fmt: skip


def test_what_is_kept():
    assert json.loads(describe_host(FACTS).text) == {
        "kernel": "6.1", "os": "Debian 12", "arch": "x86_64", "cpu": "Ryzen 7", "cpus": 8, "cores": "1 x 4 x 2", "memory_mib": 32000,
        "gpus": ["2 x A100, 40960 MiB"], "gpu_driver": "nvidia 535.54.03", "python": "/usr/bin/python3 Python 3.11.2",
        "engines": ["podman"],
    }  # fmt: skip
    assert "gpus" not in json.loads(describe_host(NodeFacts()).text)


def test_equal_hosts_share_one_and_a_boot_makes_no_new_one():
    twin = replace(FACTS, gpus=tuple(replace(gpu, id=f"other-{gpu.id}") for gpu in FACTS.gpus))
    assert describe_host(replace(twin, boot_at=5.0, tmp_disk_mib=7, gpu_problem="busy")) == describe_host(FACTS)


def test_each_of_these_makes_another():
    changed = [
        {"kernel": "6.2"}, {"os": "Debian 13"}, {"cpu_model": "Ryzen 9"}, {"memory_mib": 64000}, {"gpu_driver": "nvidia 550"},
        {"python": "/usr/bin/python3 Python 3.13.1"}, {"gpus": FACTS.gpus[:1]}, {"engines": ()}, {"arch": "aarch64"},
    ]  # fmt: skip
    digests = {describe_host(replace(FACTS, **change)).digest for change in changed} | {describe_host(FACTS).digest}
    assert len(digests) == len(changed) + 1
