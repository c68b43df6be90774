"""sshq shared: which hosts share a directory with the head, and how that is known."""

import os
from collections.abc import Mapping, Sequence

import click

from sshq.api import proof
from sshq.cli.asking import read_items, read_text
from sshq.cli.own import own_command, print_table, run_command
from sshq.cli.printing import print_json
from sshq.errors import UserError
from sshq.wire.client import connect

_EVIDENCE = {
    "token": {True: "it sees our token", False: "it does not see our token"},
    "declared": {True: "sshq_shared says so"},
    "identity": {True: "same server and place, inode and change time"},
    "absent": {False: "the directory is not there"},
}


@own_command("shared")
@click.argument("directory", required=False, metavar="[DIR]")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def _command(directory: str | None, as_json: bool) -> int:
    """Show which hosts share DIR (here, if none is given) with the head, and by what evidence.

    A file with a random name and content is put there for a moment, and each host is asked whether it sees it: that decides
    where jobs run.  Where you may not write, a host that has the directory from the same server and place, with the same inode
    and change time, is told as sharing it.  What it is on each host is shown beside; the same server alone proves nothing.
    """
    path = proof.find_cwd() if directory is None else proof.stand_in(os.path.abspath(directory))
    described = proof.describe_directory(path)
    if described is None:
        raise UserError(f"{directory or path} is not a directory")
    with connect(os.environ) as client:
        reply = proof.prove(client, {"path": str(described["path"]), "directory": described}, method="shared")
    if as_json:
        print_json(reply)
        return 0
    click.echo(f"{read_text(reply, 'path')} is {read_text(reply, 'here')} on the head")
    if not reply.get("token"):
        click.echo("you may not write there, so no host can prove it")
    print_table(("HOST", "SHARED", "HOW IT IS KNOWN", "THERE"), [_row(host) for host in read_items(reply.get("hosts"))])
    return 0


def run(argv: Sequence[str]) -> int:
    """Run `sshq shared`."""
    return run_command(_command, "shared", argv)


def _row(host: Mapping[str, object]) -> tuple[str, str, str, str]:
    shared, evidence = host.get("shared"), read_text(host, "evidence")
    how = _EVIDENCE.get(evidence, {}).get(shared is True, "") if shared is not None else ""
    if shared is None and host.get("identity") == "same":
        how = "same server and place, which alone proves nothing"
    note = read_text(host, "note")
    how = ", ".join(filter(None, (how, note)))
    answer = "unknown" if shared is None else "yes" if shared else "no"
    return read_text(host, "name"), answer, how, read_text(host, "there")
