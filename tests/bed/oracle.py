"""Who ran what, how often and to what end, judged without a line of sshq's code.

Jobs sign marks into an append-only file on their node; what was accepted is noted by whoever submitted it.  `collect`
takes these, what is left in the nodes' spools, the store (by SQL, read-only) and `sacct`; `judge` compares them.  One
line is one `write` of an appending open, so lines never mix.  Times are of one clock: all hosts of a bed share it.
"""

import json
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from .host import Host
from .instance import Instance

MARKS = "marks"
# What a job's script begins with.  `beat` is for jobs that last: it shows that they live.
SIGN = f"""mark() {{ printf '%s %s %s %s %s\\n' "$1" "$SSHQ_ATTEMPT" "$SLURM_JOB_ID" "$(date +%s.%N)" "${{2:--}}" >>"$HOME/{MARKS}"; }}
beat() {{ while [ "$(date +%s%N)" -lt "$1" ]; do mark beat; sleep 0.2; done; }}
trap 'mark end $?' EXIT
mark start
"""
KINDS = (
    "lost",  # accepted, and not there or not ended; or run, and nobody knows
    "doubled",  # one launch started twice; two launches of one job at once; started though `never_started`
    "false_completed",  # COMPLETED, or an exit code, that its last run does not say
    "double_accounting",  # rows of accounting are not the launches that ended, one each
    "alive_after_end",  # a sign of life after the end that accounting names, a cancel's above all
    "left_over",  # processes or files of jobs that have ended
    "no_fault",  # a run that injected nothing, or not all that was planned, proves nothing
)
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "DEADLINE", "OUT_OF_MEMORY", "PREEMPTED")
CLOCK_SLACK_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One line of a ledger: start, beat, or end with the job's own exit code."""

    node: str
    what: str
    launch: str
    job: int
    at: float
    code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(slots=True, kw_only=True)
class Evidence:
    """All that is compared.  Rows of the store are its JSON with the columns beside it."""

    accepted: dict[int, int]  # job number as sbatch printed it -> tasks (1 where it is no array)
    faults: dict[str, int]  # kind -> how often it was injected; a planned one is there with 0
    marks: list[Mark] = field(default_factory=list)
    jobs: dict[int, dict[str, object]] = field(default_factory=dict)
    launches: dict[str, dict[str, object]] = field(default_factory=dict)
    accounts: list[dict[str, object]] = field(default_factory=list)
    sacct: dict[int, dict[str, object]] = field(default_factory=dict)
    records: dict[str, str] = field(default_factory=dict)  # launch -> the record a spool still holds
    files: list[str] = field(default_factory=list)  # what spools still hold of launches
    processes: list[str] = field(default_factory=list)  # of jobs, when all had ended
    wiped: list[tuple[str, float]] = field(default_factory=list)  # node and time: what ran there is known to nobody since
    unanswered: int = 0  # submissions whose answer got lost: each may be a job

    def launches_wiped(self) -> set[str]:
        """Those that ran on a node while its spool was wiped."""
        spans = spans_of(self.marks)
        return {
            mark.launch for node, at in self.wiped for mark in self.marks
            if mark.node == node and spans[mark.launch][0] <= at <= spans[mark.launch][1] + 60
        }  # fmt: skip


# ---- collecting ----------------------------------------------------------------------------------------------------


def collect(
    instance: Instance, hosts: Sequence[Host], accepted: Mapping[int, int], faults: Mapping[str, int],
    wiped: Iterable[tuple[str, float]] = (), unanswered: int = 0,
) -> Evidence:  # fmt: skip
    """Read everything; the controller is up (for `sacct`), the queue has drained."""
    evidence = Evidence(accepted=dict(accepted), faults=dict(faults), wiped=list(wiped), unanswered=unanswered)
    evidence.sacct = {int(row["job_id"]): row for row in json.loads(instance.out("sacct", "--json"))["jobs"]}
    store_id = Path(instance.sshq_home, "state", "store_id").read_text().strip()
    read_store(evidence, f"{instance.sshq_home}/state/sshq.db")
    for host in hosts:
        evidence.marks += read_marks(host)
        evidence.processes += [f"{host.name}: {text}" for text in processes_of_jobs(host)]
        for path in spool_files(host, store_id):
            evidence.files.append(f"{host.name}: {path.name}")
            if path.suffix == ".exit" and (line := path.read_text(errors="replace").partition("\n")[0].strip()):
                evidence.records[path.stem] = line
    return evidence


def read_marks(host: Host) -> list[Mark]:
    path = f"{host.home}/{MARKS}"
    found = []
    for line in host.read(path).splitlines() if host.exists(path) else ():
        what, launch, job, at, code = line.split()
        found.append(
            Mark(node=host.name, what=what, launch=launch, job=int(job), at=float(at), code=None if code == "-" else int(code))
        )
    return found


def read_store(evidence: Evidence, path: str) -> None:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as store:
        for job, array, state, text in store.execute("SELECT job_id, array_job_id, state, record FROM job"):
            evidence.jobs[job] = json.loads(text) | {"state": state, "array": array}
        for launch, job, is_open, text in store.execute("SELECT id, job_id, open, record FROM launch"):
            evidence.launches[launch] = json.loads(text) | {"job": job, "open": bool(is_open)}
        for launch, job, text in store.execute("SELECT launch_id, job_id, record FROM accounting"):
            row = json.loads(text) | {"launch": launch, "job": job}
            evidence.accounts.append(row | {"outcome": str(row["outcome"]).lower()})


def spool_files(host: Host, store_id: str) -> list[Path]:
    """What is left of launches in the spool of a host."""
    base = str(host.vars.get("sshq_spool") or f"{host.home}/.local/state/sshq")
    with suppress(OSError):
        return sorted(host.path(f"{base}/spool/{store_id}/a").iterdir())
    return []


def job_pids(host: Host) -> Iterator[tuple[int, str]]:
    """Every process that carries a job's cookie, with its launch."""
    for pid in host.pids():
        with suppress(OSError):
            if found := re.search(rb"(?:^|\0)SSHQ_ATTEMPT=([^\0]*)", Path(f"/proc/{pid}/environ").read_bytes()):
                yield pid, found[1].decode(errors="replace")


def processes_of_jobs(host: Host) -> list[str]:
    found = []
    for pid, launch in job_pids(host):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if words:  # a zombie has none
                found.append(f"{launch} {pid} {words[:80]}")
    return found


# ---- judging -------------------------------------------------------------------------------------------------------


def judge(evidence: Evidence) -> list[Violation]:
    """All that cannot be true of a queue that loses and doubles nothing; empty if all is well."""
    checks = (find_lost, find_doubled, find_false, find_double_accounting, find_alive, find_left_over, find_no_fault)
    return [Violation(kind=kind, text=text) for check in checks for kind, text in check(evidence)]


def tally(violations: Iterable[Violation]) -> dict[str, int]:
    """Count by kind, zeros too."""
    counts = Counter(violation.kind for violation in violations)
    return {kind: counts[kind] for kind in KINDS}


Finding = Iterator[tuple[str, str]]


def find_lost(evidence: Evidence) -> Finding:
    known = set(evidence.accepted)
    for job, tasks in evidence.accepted.items():
        rows = [row for number, row in evidence.jobs.items() if number == job or row["array"] == job]
        if len(rows) != tasks:
            yield "lost", f"job {job}: {len(rows)} of {tasks} in the store"
    extra = {row["array"] or job for job, row in evidence.jobs.items()} - known
    if len(extra) > evidence.unanswered:
        yield "doubled", f"{len(extra)} jobs nobody submitted: {sorted(extra)[:20]}"
    for job, row in evidence.jobs.items():
        if row["state"] not in ENDED:
            yield "lost", f"job {job} never ended: {row['state']} {row.get('reason', '')}"
        if job not in evidence.sacct:
            yield "lost", f"job {job} is not in sacct"
        elif evidence.sacct[job]["state"]["current"] != row["state"]:
            yield "lost", f"job {job}: sacct says {evidence.sacct[job]['state']['current']}, the store {row['state']}"
    for launch, row in evidence.launches.items():
        if row["open"]:
            yield "lost", f"launch {launch} of job {row['job']} is still open"
    for launch in {mark.launch for mark in evidence.marks} | set(evidence.records):
        if launch not in evidence.launches:
            yield "lost", f"launch {launch} ran, and the store never heard of it"


def spans_of(marks: Iterable[Mark]) -> dict[str, tuple[float, float]]:
    """First and last sign of life, by launch."""
    spans: dict[str, tuple[float, float]] = {}
    for mark in marks:
        first, last = spans.get(mark.launch, (mark.at, mark.at))
        spans[mark.launch] = min(first, mark.at), max(last, mark.at)
    return spans


def find_doubled(evidence: Evidence) -> Finding:
    starts = Counter(mark.launch for mark in evidence.marks if mark.what == "start")
    yield from (("doubled", f"launch {launch} started {n} times") for launch, n in starts.items() if n > 1)
    spans = spans_of(evidence.marks)
    by_job: dict[int, set[str]] = defaultdict(set)
    for mark in evidence.marks:
        by_job[mark.job].add(mark.launch)
    for job, launches in by_job.items():
        in_order = sorted(launches, key=lambda launch: spans[launch])
        for earlier, later in zip(in_order, in_order[1:], strict=False):
            if spans[later][0] < spans[earlier][1]:
                yield "doubled", f"job {job}: launches {earlier} and {later} lived at once"
    for row in evidence.accounts:
        if row["outcome"] == "never_started" and starts[row["launch"]]:
            yield "doubled", f"launch {row['launch']} of job {row['job']} started, accounted as never started"


def find_false(evidence: Evidence) -> Finding:
    ends = {mark.launch: mark.code for mark in evidence.marks if mark.what == "end"}
    completed = {row["job"]: row for row in evidence.accounts if row["state"] == "COMPLETED"}
    for job, row in evidence.jobs.items():
        if row["state"] == "COMPLETED" and job not in completed:
            yield "false_completed", f"job {job} COMPLETED, and no run of it did"
    for row in evidence.accounts:
        launch, code = row["launch"], row.get("exit_code") or 0
        said = ends.get(launch)
        if row["state"] == "COMPLETED" and said != 0:
            yield "false_completed", f"job {row['job']} launch {launch} COMPLETED, itself it said {said}"
        elif row["state"] == "FAILED" and said is not None and code != said and not row.get("exit_signal"):
            yield "false_completed", f"job {row['job']} launch {launch} failed with {code}, itself it said {said}"
    for launch, record in evidence.records.items():
        status = re.search(r" how=exit status=(\d+)", record)
        row = next((row for row in evidence.accounts if row["launch"] == launch), None)
        if row and row["state"] == "COMPLETED" and status and status[1] != "0":
            yield "false_completed", f"launch {launch} COMPLETED, its record says {status[1]}"


def find_double_accounting(evidence: Evidence) -> Finding:
    settled = {launch for launch, row in evidence.launches.items() if not row["open"]}
    counts = Counter(str(row["launch"]) for row in evidence.accounts)
    yield from (("double_accounting", f"launch {launch}: {n} rows") for launch, n in counts.items() if n != 1)
    for launch in settled ^ set(counts):
        yield "double_accounting", f"launch {launch}: settled {launch in settled}, accounted {counts[launch]} times"
    attempts = Counter((row["job"], row["attempt"]) for row in evidence.accounts)
    yield from (("double_accounting", f"job {job} attempt {k}: {n} rows") for (job, k), n in attempts.items() if n > 1)
    by_job = Counter(row["job"] for row in evidence.accounts)
    for job, row in evidence.sacct.items():
        shown = row["sshq"]["attempts"]
        if len(shown) != by_job[job]:
            yield "double_accounting", f"job {job}: sacct shows {len(shown)} attempts, the store {by_job[job]}"


def find_alive(evidence: Evidence) -> Finding:
    spans, wiped = spans_of(evidence.marks), evidence.launches_wiped()
    for row in evidence.accounts:
        launch = row["launch"]
        exempt = row["outcome"] in ("spool_lost", "asserted") or row.get("survivors") or launch in wiped
        if launch in spans and not exempt and spans[launch][1] > float(row["end_at"]) + CLOCK_SLACK_S:
            late_s = spans[launch][1] - float(row["end_at"])
            yield "alive_after_end", f"job {row['job']} launch {launch} {row['state']} lived {late_s:.1f} s after its end"
    for mark in evidence.marks:
        job = evidence.jobs.get(mark.job)
        if job and job["state"] == "CANCELLED" and mark.at > float(job.get("end_at") or 0) + CLOCK_SLACK_S:
            if mark.launch not in wiped and not job.get("survivors"):
                yield "alive_after_end", f"job {mark.job} was cancelled and {mark.what} came later"


def find_left_over(evidence: Evidence) -> Finding:
    wiped = evidence.launches_wiped()  # what runs there then is shown and can be killed; nobody else ends it
    yield from (("left_over", f"process {text}") for text in evidence.processes if text.split()[1] not in wiped)
    # Output that could not be brought home stays on purpose, and the job says so.
    kept = {str(row.get("launch_id")) for row in evidence.jobs.values() if "not brought home" in str(row.get("note"))}
    kept |= wiped  # their supervisors write into the new spool, which knows nothing of them
    yield from (("left_over", f"file {text}") for text in evidence.files if text.split(": ")[1].split(".")[0] not in kept)


def find_no_fault(evidence: Evidence) -> Finding:
    if not any(evidence.faults.values()):
        yield "no_fault", "nothing was injected"
    yield from (("no_fault", f"{kind} was planned and never injected") for kind, n in evidence.faults.items() if not n)
