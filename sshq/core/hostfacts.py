"""What a host was when something was launched there, as one text under its digest: equal hosts share one.

What differs from boot to boot without making a difference to a result (load, free memory, when it booted) is not in it; the
launch itself has the boot.
"""

import json
from collections import Counter
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

from sshq.core.model import HostFacts, NodeFacts

if TYPE_CHECKING:
    from sshq.core.cluster import Cluster
    from sshq.core.nodes import Node


def note_facts(cluster: "Cluster", node: "Node") -> str | None:
    """Have what a node is stored, and return its digest; None where that is not known."""
    if node.facts is None:
        return None
    facts = describe_host(node.facts)
    cluster.store_row(facts)
    return facts.digest


@lru_cache(maxsize=4096)
def describe_host(facts: NodeFacts) -> HostFacts:
    """Return what is kept of the facts of a node; a key whose value is not known is left out."""
    kinds = Counter((gpu.name or gpu.type or gpu.vendor or "GPU", gpu.memory_mib) for gpu in facts.gpus)
    gpus = [f"{count} x {name}" + (f", {memory} MiB" if memory else "") for (name, memory), count in sorted(kinds.items())]
    told: dict[str, object] = {
        "kernel": facts.kernel, "os": facts.os, "arch": facts.arch, "cpu": facts.cpu_model, "cpus": facts.cpus,
        "cores": f"{facts.sockets} x {facts.cores} x {facts.threads}", "memory_mib": facts.memory_mib, "gpus": gpus,
        "gpu_driver": facts.gpu_driver, "python": facts.python, "engines": list(facts.engines),
    }  # fmt: skip
    text = json.dumps({key: value for key, value in told.items() if value}, separators=(",", ":"))
    return HostFacts(digest=sha256(text.encode("utf-8", "surrogatepass")).hexdigest(), text=text)
