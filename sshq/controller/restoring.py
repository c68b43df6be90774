"""`sshq restore`: list the backups, or put one in the place of the store, under the controller's lock.  A process of its own.

The next start holds what was pending in the backup, for it may have run since; jobs found running on hosts are adopted.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from sshq.controller.crash import VARIABLE, crash_hook
from sshq.controller.lock import take_lock
from sshq.errors import SshqError
from sshq.inventory.config import load_config
from sshq.store.backups import find_backups, format_backups
from sshq.store.database import SCHEMA
from sshq.store.files import make_private
from sshq.store.restore import restore_backup


def main(argv: list[str] | None = None) -> int:
    """Restore; returns the exit status."""
    os.umask(0o077)
    parser = argparse.ArgumentParser(prog="sshq restore")
    parser.add_argument("--state", required=True)
    parser.add_argument("--config")
    parser.add_argument("backup", nargs="?")
    arguments = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if arguments.backup is None:
        return _list(Path(arguments.state))
    try:
        on_network = load_config(arguments.config).state_on_network
        make_private(Path(arguments.state))
        crash = crash_hook(os.environ.get(VARIABLE, ""), Path(arguments.state))
        with take_lock(Path(arguments.state) / "lock"):
            old = restore_backup(arguments.state, arguments.backup, crash, on_network=on_network)
    except OSError as error:
        raise SystemExit(f"sshq: error: {arguments.state}: {error.strerror}") from None
    except SshqError as error:
        sys.stderr.write(error.render("sshq"))
        return error.exit_code
    sys.stdout.write(
        f"restored from {arguments.backup}; what stood there before is in {old}\n"
        "sshq up starts it; jobs that were pending are held until `scontrol release`, for they may have run since\n"
    )
    return 0


def _list(state: Path) -> int:
    found = list(find_backups(state, max(SCHEMA)))
    sys.stdout.write(format_backups(found, state, time.time()))
    if found:
        sys.stdout.write("sshq restore BACKUP puts one in the place of the store (after sshq down)\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
