"""sshq logs: a job's output, from wherever the job runs, and the controller's own log."""

import os
import sys
from collections.abc import Sequence

import click

from sshq.cli.copying import copy_output
from sshq.cli.own import UsageMistakeError, own_command, read_job_ref, run_command
from sshq.cli.stageline import StageLine
from sshq.errors import RefusedError, UnreachableError
from sshq.wire.client import connect


@own_command("logs")
@click.argument("job", required=False, metavar="[JOB]")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job is over.")
@click.option("-e", "--error", "error_stream", is_flag=True, help="Standard error, where it has a file of its own.")
@click.option("--controller", is_flag=True, help="The controller's own log.")
@click.option("-n", "--lines", type=click.IntRange(0), default=100, show_default=True, help="How much of the controller's log.")
def _command(
    *, job: str | None, follow: bool, error_stream: bool, controller: bool, lines: int
) -> int:
    """Show the output of JOB (12, or 12_4 for an array task), live if it is running."""
    if controller:
        if job:
            raise UsageMistakeError("a job and --controller exclude each other", hint="sshq logs --help")
        return _copy("controller_log", {"lines": lines, "follow": follow})
    if not job:
        raise UsageMistakeError("which job?", hint="sshq logs JOB, or sshq logs --controller")
    params: dict[str, object] = {
        "ref": read_job_ref(job), "stream": "err" if error_stream else "out", "follow": follow, "offset": 0,
    }  # fmt: skip
    return _copy_job(params, follow=follow)


def run(argv: Sequence[str]) -> int:
    """Run `sshq logs`."""
    return run_command(_command, "logs", argv)


def _copy_job(params: dict[str, object], *, follow: bool) -> int:
    sys.stdout.flush()
    ref = params["ref"]
    if follow and isinstance(ref, list) and ref[1] is None:
        _show_staging(ref[0])
    copy_output(params, sys.stdout.fileno(), follow=follow)
    return 0


def _show_staging(job_id: object) -> None:
    """Show on a terminal how far the files of a job are that has not begun: until then it has written nothing."""
    line = StageLine("sshq")
    if not line.is_wanted:
        return
    try:
        with connect(os.environ) as client:
            for told in client.stream("wait", {"ids": [job_id], "staging": "alone"}, timeout_s=None):
                line.take(told)
    except (UnreachableError, RefusedError):
        pass  # following has patience, or says why; a controller of the release before does not tell of it
    finally:
        line.clear()


def _copy(method: str, params: dict[str, object]) -> int:
    sys.stdout.flush()
    with connect(os.environ) as client:
        for _ in client.data(method, params, timeout_s=None).copy_to(sys.stdout.fileno()):
            pass
    return 0
