"""What jobs themselves say about their starts, and how it compares with what sshq says.

A job appends one line, launch and job number, to a ledger in its home on its node before it does anything else.  One
line is one `write` of an appending open, so lines never mix.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SIGN = 'echo "$SSHQ_ATTEMPT $SLURM_JOB_ID" >>"$HOME/ledger"'
LEDGER = "ledger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One line of a ledger."""

    node: str
    launch: str
    job: int


def read_ledgers(hosts: Iterable[object]) -> list[Start]:
    """All starts on these hosts."""
    found = []
    for host in hosts:
        path = f"{host.home}/{LEDGER}"
        lines = host.read(path).splitlines() if host.exists(path) else []
        found += [Start(node=host.name, launch=launch, job=int(job)) for launch, job in map(str.split, lines)]
    return found


def read_accounts(instance: object) -> dict[int, Mapping[str, object]]:
    """`sacct --json`, by job number."""
    text = instance.out("sacct", "--json", "-S", "now-2days")  # midnight may have passed
    return {int(row["job_id"]): row for row in json.loads(text)["jobs"]}


def attempts_of(row: Mapping[str, object]) -> list[Mapping[str, object]]:
    return row["sshq"]["attempts"]


def find_wrong(starts: Iterable[Start], accounts: Mapping[int, Mapping[str, object]]) -> list[str]:
    """What cannot be true at once: started twice, started unaccounted, completed without a start."""
    starts = list(starts)
    wrong = [f"launch {launch} started {n} times" for launch, n in Counter(s.launch for s in starts).items() if n > 1]
    by_job: dict[int, list[Start]] = {}
    for start in starts:
        by_job.setdefault(start.job, []).append(start)
    wrong += [f"job {job} is in a ledger and not in sacct" for job in by_job if job not in accounts]
    for job, row in accounts.items():
        attempts = attempts_of(row)
        numbers = [a["attempt"] for a in attempts]
        if len(set(numbers)) != len(numbers):
            wrong.append(f"job {job}: accounting rows {numbers}")
        ran = [a for a in attempts if a["outcome"] != "never_started"]
        state = row["state"]["current"]
        over = state not in ("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED")
        # A reboot, or the signal of a cancel, may have come before the first line.
        perhaps = [a for a in ran if a["outcome"] == "rebooted" or (a["state"] == "CANCELLED" and a["exit_signal"])]
        if over and not len(ran) - len(perhaps) <= len(by_job.get(job, ())) <= len(ran):
            wrong.append(f"job {job} {state}: {len(by_job.get(job, ()))} starts on nodes, accounted {attempts}")
        if state == "COMPLETED" and not by_job.get(job):
            wrong.append(f"job {job} COMPLETED without a start")
    return wrong
