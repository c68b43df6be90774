"""`sshq restore FILE`: put a backup in the place of the store, under the controller's lock.  Runs as a process of its own.

The next start holds what was pending in the backup, for it may have run since; jobs found running on hosts are adopted.
"""

import argparse
import os
import sys
from pathlib import Path

from sshq.controller.lock import take_lock
from sshq.errors import SshqError
from sshq.store.restore import restore_backup


def main(argv: list[str] | None = None) -> int:
    """Restore; returns the exit status."""
    os.umask(0o077)
    parser = argparse.ArgumentParser(prog="sshq restore")
    parser.add_argument("--state", required=True)
    parser.add_argument("backup")
    arguments = parser.parse_args(sys.argv[1:] if argv is None else argv)
    try:
        os.makedirs(arguments.state, mode=0o700, exist_ok=True)
        with take_lock(Path(arguments.state) / "lock"):
            old = restore_backup(arguments.state, arguments.backup)
    except SshqError as error:
        sys.stderr.write(error.render("sshq"))
        return error.exit_code
    sys.stdout.write(
        f"restored from {arguments.backup}; what stood there before is in {old}\n"
        "sshq up starts it; jobs that were pending are held until `scontrol release`, for they may have run since\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
