"""Asking hosts without a controller: a short-lived process of the controller's side, so that commands never touch them."""

import json
import os
import subprocess
import sys

from sshq.cli.places import Places, interpreter_environment
from sshq.errors import RefusedError

TIMEOUT_S = 120.0


def ask_hosts(verb: str, params: dict[str, object], places: Places, *, timeout_s: float = TIMEOUT_S) -> dict[str, object]:
    """Return the result of `python -m sshq.controller.adhoc VERB`; its stderr passes through.

    Raises:
        RefusedError: it said no, or nothing that can be understood.

    """
    command = [sys.executable, "-P", "-s", "-m", "sshq.controller.adhoc", verb, json.dumps(params), *places.arguments()]
    try:
        found = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False, timeout=timeout_s,
            env=interpreter_environment(os.environ),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RefusedError(f"the hosts did not answer within {timeout_s:.0f} s", code="not_now", hint="sshq doctor") from None
    try:
        document = json.loads(found.stdout)
    except ValueError:
        document = None
    if isinstance(document, dict) and isinstance(document.get("error"), dict):
        raise read_refusal(document["error"])
    if found.returncode or not isinstance(document, dict):
        raise RefusedError(f"asking the hosts failed (exit status {found.returncode})", code="internal")
    return document


def read_refusal(fault: dict[str, object]) -> RefusedError:
    """Return the error that an error object of the protocol stands for."""
    lines = fault.get("detail")
    hint = fault.get("hint")
    error = RefusedError(
        str(fault.get("message", "no reason was given")),
        code=str(fault.get("code", "internal")),
        detail=tuple(str(line) for line in lines) if isinstance(lines, list) else (),
        hint=str(hint) if hint else None,
    )
    status = fault.get("exit")
    if isinstance(status, int) and 0 < status < 256:
        error.exit_code = status
    return error
