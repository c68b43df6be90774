"""scontrol show: steps, licenses, and the things that Slurm knows and a queue over ssh does not have, in Slurm's words."""

import sys
import time
from collections.abc import Callable

from sshq.cli.asking import Object, ask_controller, list_items, read_items
from sshq.cli.printing import print_document, print_lines, wants_document
from sshq.errors import OptionError
from sshq.slurm.getopt import Parsed
from sshq.slurm.messages import ExactError

Shower = Callable[[str | None, Parsed], int]

_CACHES = (
    "Current Association Manager state\n\nNo users currently cached in Slurm.\n\nNo associations currently cached in Slurm.\n\n"
    "No QOS currently cached in Slurm.\n"
)


def _show_steps(name: str | None, parsed: Parsed) -> int:
    from sshq.core.ids import parse_job_id
    from sshq.slurm.show_more import choose_steps, render_step

    wanted: Object = {}
    ref = None
    if name is not None:
        try:
            ref = parse_job_id(name)
        except ValueError:
            raise ExactError(("scontrol_print_step error: Invalid job id specified",)) from None
        wanted = {"refs": [[ref.job_id, list(ref.tasks) if ref.tasks is not None else None]]}
    steps, _ = list_items("scontrol", "steps", {"filter": wanted})
    chosen = choose_steps(steps, ref.step if ref else None)
    if wants_document(parsed):
        from sshq.slurm.jsondoc import head_document

        print_document({**head_document("openapi"), "steps": [dict(step) for step in chosen]}, parsed)
        return 0
    if not chosen:
        print_lines([f"Job step {name} not found" if name else "No job steps in the system"])
        return 1 if name else 0
    for step in chosen:
        sys.stdout.write(render_step(step, oneline=parsed.has("oneline")))
    return 0


def _show_licenses(name: str | None, parsed: Parsed) -> int:
    from sshq.slurm.show_more import render_licenses

    info = ask_controller("scontrol", "info", {})
    known = [item for item in read_items(info.get("licenses")) if name is None or item.get("name") == name]
    if wants_document(parsed):
        from sshq.slurm.jsondoc import head_document

        print_document({**head_document("openapi"), "licenses": list(known)}, parsed)
        return 0
    if name is not None and not known:
        print_lines([f"License name {name} not found"])
        return 1
    sys.stdout.write(render_licenses(known, oneline=parsed.has("oneline")))
    return 0


def _show_aliases(name: str | None, _parsed: Parsed) -> int:
    """Print the nodes on a machine, by its address or name."""
    info = ask_controller("scontrol", "info", {})
    names = [str(node.get("name")) for node in read_items(info.get("nodes")) if name in (node.get("address"), node.get("name"))]
    print_lines([" ".join(names)])
    return 0


def _show_daemons(_name: str | None, _parsed: Parsed) -> int:
    print_lines(["slurmctld slurmd"])
    return 0


def _show_reservations(name: str | None, parsed: Parsed) -> int:
    from sshq.cli.reserving import show_reservations

    return show_reservations(name, parsed)


def _say(text: str) -> Shower:
    def show(_name: str | None, _parsed: Parsed) -> int:
        sys.stdout.write(text)
        return 0

    return show


def _refuse(text: str) -> Shower:
    def show(_name: str | None, _parsed: Parsed) -> int:
        raise OptionError(text)

    return show


def _show_slurmd(_name: str | None, _parsed: Parsed) -> int:
    status = ask_controller("scontrol", "status", {})
    uptime = status.get("uptime_s")
    started_at = time.time() - (float(uptime) if isinstance(uptime, (int, float)) else 0.0)
    from sshq.slurm.show_more import render_slurmd

    sys.stdout.write(render_slurmd(status, started_at))
    return 0


SHOWERS: dict[str, Shower] = {
    "aliases": _show_aliases,
    "assoc_mgr": _say(_CACHES),
    "bbstat": _refuse("there are no burst buffers"),
    "burstbuffer": _say("No burst buffer in the system\n"),
    "daemons": _show_daemons,
    "dwstat": _refuse("there are no burst buffers"),
    "federation": _say("Federation: (null)\n"),
    "licenses": _show_licenses,
    "reservations": _show_reservations,
    "slurmd": _show_slurmd,
    "steps": _show_steps,
    "topology": _say("No topology information available\n"),
}
