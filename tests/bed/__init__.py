"""A bed of hosts to test sshq on, and isolated instances of sshq itself.  `from bed import …`.

    session    what this run owns on the machine and how it goes away     host       what every host can do, inventory text
    netns      hosts in network namespaces (root)                         faults     their faults: cut, reboot, freeze, …
    containers hosts in containers (root, docker.io)                      boxes      hosts with an engine, for jobs in containers
    laptop     another machine that reaches a controller by ssh
    loopback   plain sshds on this machine (any user)                     odd        odd but real nodes, by name
    cutter     a relay that cuts connections after byte k
    rootfs     file systems for hosts                                     instance   one sshq: HOME, SSHQ_HOME, its CLI

The fixtures that hand these out are in tests/conftest.py.
"""

from .boxes import BoxHost, why_no_engine
from .boxlab import BOX_IMAGE, BOX_PATIENCE_S, BoxLab
from .containers import ContainerBed, ContainerHost, why_no_containers
from .cutter import Cut, Cutter
from .host import Host, inventory_text, known_hosts_text
from .instance import Instance
from .laptop import Laptop
from .loopback import LoopbackBed, LoopbackHost, why_no_sshd
from .netns import NetnsBed, NetnsHost, why_no_netns
from .odd import ODD, OddKind, lacking_tool
from .session import REPO, CommandError, call, close_session, session, wait_until, which

__all__ = [
    "BOX_IMAGE", "BOX_PATIENCE_S", "ODD", "REPO", "BoxHost", "BoxLab", "CommandError", "ContainerBed", "ContainerHost", "Cut", "Cutter", "Host", "Instance", "Laptop", "LoopbackBed", "LoopbackHost", "NetnsBed", "NetnsHost", "OddKind",
    "call", "close_session", "inventory_text", "known_hosts_text", "lacking_tool", "session", "wait_until", "which",
    "why_no_containers", "why_no_netns", "why_no_engine", "why_no_sshd",
]  # fmt: skip
