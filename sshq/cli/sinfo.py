"""sinfo: the state of the hosts; without a controller it asks them itself, and says so."""

import os
import sys
import time

from sshq.cli.asking import UNREACHABLE_PREFIX, NoAnswerError, Object, read_items, read_text
from sshq.cli.gpunotes import read_notes
from sshq.cli.printing import print_document, print_lines, print_messages, print_warnings
from sshq.errors import UnreachableError
from sshq.slurm.sinfo import SinfoOptions, read_sinfo_options, render_sinfo
from sshq.wire import client as client_module
from sshq.wire.client import LostReplyError, connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def run(argv: "Sequence[str]") -> int:
    """Run sinfo; the result is its exit status."""
    options = read_sinfo_options(argv, os.environ)
    if options.wants:
        from sshq.slurm.help import describe_command

        sys.stdout.write(describe_command("sinfo", options.wants))
        return 0
    print_warnings("sinfo", options.warnings)
    code = _show_once(options)
    while options.iterate_s:
        sys.stdout.write("\n")
        sys.stdout.flush()
        time.sleep(options.iterate_s)
        code = _show_once(options)
    return code


def _show_once(options: SinfoOptions) -> int:
    info = _ask()
    nodes, partitions = read_items(info.get("nodes")), read_items(info.get("partitions"))
    inventory = info.get("inventory")
    if isinstance(inventory, dict) and inventory.get("error"):
        head, *rest = str(inventory["error"]).splitlines()
        print_messages([f"sinfo: warning: the inventory in force is an older one: {head}", *rest])
    if options.is_document:
        from sshq.slurm.jsondoc import sinfo_document

        print_document(sinfo_document(nodes), options.parsed)
        return 0
    output = render_sinfo(nodes, partitions, options, time.time())
    print_lines(output.lines)
    print_messages(output.messages)
    print_messages(f"sinfo: {read_text(node, 'name')}: {note}" for node in nodes for note in read_notes(node))
    return output.exit_code


def _ask() -> Object:
    try:
        with connect(os.environ) as client:
            return client.call("info")
    except LostReplyError as error:
        raise NoAnswerError(error, UNREACHABLE_PREFIX["sinfo"]) from None
    except UnreachableError as error:
        if client_module.only_socket is not None or client_module.find_head(os.environ) is not None:
            raise NoAnswerError(error, UNREACHABLE_PREFIX["sinfo"]) from None
        from sshq.cli.adhoc import ask_hosts
        from sshq.cli.places import find_places

        print_messages([f"sinfo: no controller listens on {error.socket}: asking the hosts themselves (start one: sshq up)"])
        return ask_hosts("info", {}, find_places(os.environ), timeout_s=60.0)
