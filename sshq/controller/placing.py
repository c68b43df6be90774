"""Where launches live that were sent some time ago: an account's spool on a machine, and how it was reached.

Stored with the node at each connect.  So an inventory that was edited while no controller was up is treated as one that
was edited while it was: what had been started under the old words is first brought to its end by them.
"""

import json
from dataclasses import replace

from sshq.inventory.model import Host

OTHER_SPOOL = ("account", "spool", "connection")  # after a change of these a host is another set of launches
_REACHED_BY = ("address", "port", "identity_files", "proxy_jump", "ssh_options", "spool_forced")


def format_place(host: Host) -> str:
    """Return what must be known to come back to this host's launches."""
    return json.dumps({key: getattr(host, key) for key in (*OTHER_SPOOL, *_REACHED_BY)}, separators=(",", ":"))


def recall_place(text: str, name: str, host: Host | None) -> Host | None:
    """Return the host as it was: `host` with what tells spools apart, or all of it where the inventory has it no more.

    None where nothing (that this release can read) was stored.
    """
    try:
        known = json.loads(text) if text else None
        if not isinstance(known, dict):
            return None
        if host is not None:
            return replace(host, **{key: known[key] for key in OTHER_SPOOL})
        known["identity_files"] = tuple(known["identity_files"])
        known["ssh_options"] = tuple((str(key), str(value)) for key, value in known["ssh_options"])
        return Host(name=name, **known)
    except (ValueError, TypeError, KeyError):
        return None


def is_elsewhere(then: Host, now: Host) -> bool:
    """Whether launches of `then` would not be found by the words of `now`."""
    return any(getattr(then, key) != getattr(now, key) for key in OTHER_SPOOL)
