"""scontrol show: jobs, nodes, partitions, the configuration, and lists of names."""

import sys
import time

from sshq.cli import here
from sshq.cli.asking import Object, ask_controller, list_items, read_items
from sshq.cli.printing import print_document, print_lines, wants_document
from sshq.core.hostlist import HostlistError, expand_hostlist, fold_hostlist
from sshq.slurm.getopt import Parsed
from sshq.slurm.messages import UNKNOWN_JOB_LOAD, ExactError
from sshq.slurm.scontrol import find_entity
from sshq.slurm.views import names_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def show(words: "Sequence[str]", parsed: Parsed) -> int:
    """Carry out `scontrol show ENTITY [NAME]`."""
    if not words:
        raise ExactError(("too few arguments for keyword:show",))
    key, equals, value = words[0].partition("=")
    names = [value, *words[1:]] if equals else list(words[1:])
    entity = find_entity(_ALIASES.get(key.lower(), key))
    shower = _SHOWERS.get(entity)
    if shower is None:
        from sshq.cli.showing_more import SHOWERS

        shower = SHOWERS.get(entity)
    if shower is None:
        from sshq.errors import OptionError

        raise OptionError(f"scontrol show {entity} is not supported by sshq", hint="sshq status")
    if len(names) > 1:
        raise ExactError((f"too many arguments for keyword:{words[0]}",))
    return shower(names[0] if names else None, parsed)


def _show_jobs(name: str | None, parsed: Parsed) -> int:
    from sshq.core.ids import parse_job_id
    from sshq.slurm.show import render_job

    wanted: Object = {}
    if name is not None:
        try:
            ref = parse_job_id(name)
        except ValueError:
            raise ExactError(("scontrol_print_job error: Invalid job id specified",)) from None
        wanted = {"refs": [[ref.job_id, list(ref.tasks) if ref.tasks is not None else None]]}
    jobs, _ = list_items("scontrol", "jobs", {"filter": wanted, "finished": True})
    if not jobs and name is not None:
        raise ExactError((UNKNOWN_JOB_LOAD,))
    if wants_document(parsed):
        from sshq.slurm.jsondoc import squeue_document

        print_document(squeue_document(jobs), parsed)
    elif not jobs:
        print("No jobs in the system")
    else:
        now = time.time()
        for job in jobs:
            sys.stdout.write(render_job(job, now=now, oneline=parsed.has("oneline"), details=parsed.has("details")))
    return 0


def _show_nodes(name: str | None, parsed: Parsed) -> int:
    from sshq.slurm.show import render_node

    info = ask_controller("scontrol", "info", {})
    nodes = read_items(info.get("nodes"))
    if not parsed.has("all"):
        hidden = {item.get("name") for item in read_items(info.get("partitions")) if item.get("hidden")}
        nodes = [node | {"partitions": [name for name in names_of(node, "partitions") if name not in hidden]} for node in nodes]
    chosen, missing = _choose(nodes, name)
    if wants_document(parsed):
        from sshq.slurm.jsondoc import sinfo_document

        print_document(sinfo_document(chosen), parsed)
        return 0
    for node in chosen:
        sys.stdout.write(render_node(node, oneline=parsed.has("oneline")))
    print_lines(f"Node {one} not found" for one in missing)  # on stdout, as Slurm has it
    return 1 if missing else 0


def _show_partitions(name: str | None, parsed: Parsed) -> int:
    from sshq.slurm.show import render_partition

    info = ask_controller("scontrol", "info", {})
    nodes, partitions = read_items(info.get("nodes")), read_items(info.get("partitions"))
    if name is None and not parsed.has("all"):
        partitions = [partition for partition in partitions if not partition.get("hidden")]
    chosen, missing = _choose(partitions, name)
    if wants_document(parsed):
        from sshq.slurm.jsondoc import head_document

        print_document({**head_document("openapi"), "partitions": list(chosen)}, parsed)
        return 0
    for partition in chosen:
        sys.stdout.write(render_partition(partition, nodes, oneline=parsed.has("oneline")))
    print_lines(f"Partition {one} not found" for one in missing)
    return 1 if missing else 0


def _choose(items: list[Object], name: str | None) -> tuple[list[Object], list[str]]:
    if name is None:
        return items, []
    try:
        names = expand_hostlist(name)
    except HostlistError:
        return [], [name]
    by_name = {str(item.get("name")): item for item in items}
    return [by_name[one] for one in names if one in by_name], [one for one in names if one not in by_name]


def _show_config(_name: str | None, parsed: Parsed) -> int:
    import os

    from sshq.cli.people import name_of
    from sshq.slurm.show_config import list_config, render_config

    status, now, host = ask_controller("scontrol", "status", {}), time.time(), os.uname().nodename
    uid = status.get("uid")
    pairs = list_config(status, now=now, host=host, user=f"{name_of(uid)}({uid})")
    own = [("sshq.socket", str(status.get("socket"))), ("sshq.version", str(status.get("version")))]
    if wants_document(parsed):
        from sshq.slurm.jsondoc import head_document

        print_document({**head_document("openapi"), "config": dict(pairs), "sshq": dict(own)}, parsed)
        return 0
    sys.stdout.write(render_config(pairs, own, now, host))
    return 0


def _show_hostnames(text: str | None, _parsed: Parsed) -> int:
    print_lines(_expand(_or_variable(text)))
    return 0


def _show_hostlist(*, sort: bool) -> "Callable[[str | None, Parsed], int]":
    def show_hostlist(text: str | None, _parsed: Parsed) -> int:
        words = _or_variable(text)
        if words.startswith("/"):
            words = ",".join(here.read_list_file(words).split())
        print(fold_hostlist(_expand(words), sort=sort))
        return 0

    return show_hostlist


def _or_variable(text: str | None) -> str:
    import os

    found = text if text is not None else os.environ.get("SLURM_JOB_NODELIST")
    if not found:
        raise ExactError(("SLURM_JOB_NODELIST environment variable not set",))
    return found


def _expand(text: str) -> list[str]:
    try:
        return expand_hostlist(text)
    except HostlistError as error:
        raise ExactError((f"Invalid hostlist: {text}",), detail=(str(error),)) from None


_ALIASES = {
    "jobid": "jobs", "nodename": "nodes", "partitionname": "partitions", "stepid": "steps", "reservationname": "reservations",
}  # fmt: skip
_SHOWERS: "dict[str, Callable[[str | None, Parsed], int]]" = {
    "jobs": _show_jobs,
    "nodes": _show_nodes,
    "partitions": _show_partitions,
    "config": _show_config,
    "hostnames": _show_hostnames,
    "hostlist": _show_hostlist(sort=False),
    "hostlistsorted": _show_hostlist(sort=True),
}
