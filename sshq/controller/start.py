"""The controller's process from its first line: the lock, and then all the rest of the program.

Reading every page of a long queue's store takes as long as loading the program, and SQLite needs no Python for it: so it is
begun as soon as the lock is held, in a thread of its own, and what it found is heard when the store is opened.
"""

import argparse
import gc
import os
import sys
from pathlib import Path

from sshq.controller.lock import take_lock
from sshq.errors import SshqError
from sshq.store.inspecting import Inspection, begin_inspection


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sshq controller", description="Started by `sshq up`.")
    parser.add_argument("--state", required=True)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--home")
    parser.add_argument("--config")
    parser.add_argument("--inventory")
    parser.add_argument("--foreground", action="store_true")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Entry of the controller process; returns its exit status."""
    os.umask(0o077)
    gc.disable()  # until all is loaded: of what a program consists of, nothing is garbage, then or later
    arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
    try:
        state = Path(arguments.state)
        os.makedirs(state, mode=0o700, exist_ok=True)
        with take_lock(state / "lock"):
            return _run(arguments, begin_inspection(state.absolute()))
    except SshqError as error:
        sys.stderr.write(error.render("sshq"))
        return error.exit_code
    except OSError as error:  # its traceback is in the log, if there is one
        where = arguments.state
        sys.stderr.write(f"sshq: error: {error.filename or where}: {error.strerror}\n    hint: df -h {where}\n")
        return 1


def _run(arguments: argparse.Namespace, inspection: Inspection | None) -> int:
    # Imported here: until they are loaded, the inspection has got far.
    import asyncio
    import logging

    from sshq.controller.logfile import start_logging
    from sshq.inventory.config import load_config

    log = logging.getLogger("sshq.daemon")
    config = load_config(arguments.config)
    start_logging(Path(arguments.state) / "controller.log", config, foreground=arguments.foreground)
    from sshq.controller.preload import load_all

    load_all()
    from sshq.controller.daemon import Controller

    gc.freeze()
    gc.enable()

    async def serve() -> int:
        return await Controller(arguments, config, inspection=inspection).run()

    try:
        return asyncio.run(serve())
    except KeyboardInterrupt:
        return 0
    except SshqError as error:
        log.critical("%s", error.message)
        raise
    except Exception:
        log.exception("the controller failed")
        raise


if __name__ == "__main__":
    sys.exit(main())
