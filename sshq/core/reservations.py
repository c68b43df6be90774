"""Reservations: making, changing and ending them, and what they mean for a pass.

A node that is reserved takes only jobs of its reservation (`sbatch --reservation`) while that lasts, and before it begins only
jobs whose time limit ends in time.  What runs when a reservation begins goes on: it was there before (IGNORE_JOBS, MAINT).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from sshq.core.arrangements import Reservation, Withdrawn
from sshq.core.effects import Audit
from sshq.core.lifecycle import FINAL
from sshq.core.placement import Rejection, Request, Step, split_name
from sshq.errors import RefusedError

if TYPE_CHECKING:
    from sshq.core.cluster import Cluster
    from sshq.core.events import ReservationChanged
    from sshq.core.model import JobSpec
    from sshq.core.nodes import Node

NOBODY = 0  # the job of a timer that means no job: reservations begin and end
INVALID = "Requested reservation is invalid"


def check_access(cluster: "Cluster", spec: "JobSpec") -> None:
    """Refuse a job whose reservation does not exist, or is not for its user."""
    for name in spec.reservations:
        found = cluster.reservations.get(name)
        if found is None:
            _refuse(f"Batch job submission failed: {INVALID}", f"reservations are: {', '.join(cluster.reservations) or 'none'}")
        if not found.admits(spec.user, spec.account):
            for_whom = ", ".join((*found.users, *found.accounts))
            _refuse("Batch job submission failed: Access denied to requested reservation", f"{name} is for {for_whom}")


def reject(cluster: "Cluster", request: Request, node: "Node", now: float) -> Rejection | None:
    """Return why reservations keep a request from a node now; None if they do not."""
    if request.reservations:
        mine = [r for name in request.reservations if (r := cluster.reservations.get(name)) and node.name in r.nodes]
        if not mine:
            return Rejection(node=node.name, step=Step.NOT_ASKED, detail=f"not in reservation {','.join(request.reservations)}")
        if not any(r.is_active(now) for r in mine):
            detail = f"reservation {mine[0].name} has not begun, or is over"
            return Rejection(node=node.name, step=Step.UNAVAILABLE, detail=detail)
    until = float("inf") if request.time_limit_s is None else now + request.time_limit_s
    for other in cluster.reservations.values():
        if node.name not in other.nodes or other.name in request.reservations or not other.overlaps(now, until):
            continue
        if request.reservations and "OVERLAP" in other.flags:
            continue
        return Rejection(node=node.name, step=Step.UNAVAILABLE, detail=f"reserved: {other.name}")
    return None


def reason_of(cluster: "Cluster", request: Request, now: float) -> str:
    """Return Slurm's reason for a request that reservations alone keep waiting."""
    if request.reservations:
        mine = [cluster.reservations[name] for name in request.reservations if name in cluster.reservations]
        if not mine:
            return "ReservationDeleted"
        return "" if any(r.is_active(now) for r in mine) else "Reservation"
    maintained = any("MAINT" in r.flags and r.is_active(now) for r in cluster.reservations.values())
    return f"ReqNodeNotAvail, {'Reserved for maintenance' if maintained else 'May be reserved for other job'}"


def change(cluster: "Cluster", event: "ReservationChanged") -> str:
    """Create, update or delete a reservation; returns its name."""
    if event.verb == "delete":
        return _delete(cluster, event)
    known = cluster.reservations.get(event.name or "")
    if event.verb == "update" and known is None:
        _refuse(INVALID)
    if event.verb == "create" and known is not None:
        _refuse("Requested reservation is invalid", f"there is a reservation {event.name} already")
    wanted = _settle(cluster, event, known)
    _check_nodes(cluster, wanted)
    put(cluster, wanted)
    _audit(cluster, event, wanted.name)
    return wanted.name


def put(cluster: "Cluster", reservation: Reservation) -> None:
    """Take a reservation as the newest of its name."""
    cluster.reservations[reservation.name] = reservation
    cluster.store_row(reservation)
    watch(cluster, reservation)
    cluster.schedule_wanted = True


def watch(cluster: "Cluster", reservation: Reservation) -> None:
    """Look again when it begins and when it ends."""
    cluster.wake_at(reservation.start_at, NOBODY)
    cluster.wake_at(reservation.end_at, NOBODY)


def expire(cluster: "Cluster", now: float) -> None:
    """What is over goes; what begins changes who may run where."""
    for one in [r for r in cluster.reservations.values() if r.end_at <= now]:
        del cluster.reservations[one.name]
        cluster.store_row(Withdrawn(kind="reservation", name=one.name))
    cluster.schedule_wanted = True


def _settle(cluster: "Cluster", event: "ReservationChanged", known: Reservation | None) -> Reservation:
    """Return the reservation that is meant, the old one's values where nothing was said."""
    given: Mapping[str, Any] = event.changes
    start_at = given.get("start_at", known.start_at if known else event.now)
    length_s = known.end_at - known.start_at if known else 0.0
    end_at = given.get("end_at", start_at + given.get("duration_s", length_s))
    if end_at <= start_at or end_at <= event.now:
        _refuse("Invalid start/end time for the reservation" if known else "Invalid time specified", "it would be over already")
    flags = tuple(dict.fromkeys((*(known.flags if known else ()), *given.get("flags", ()))))
    name = event.name or _make_name(cluster, [*given.get("users", ()), *given.get("accounts", ())])
    base = known or Reservation(name=name, start_at=start_at, end_at=end_at, nodes=())
    wanted = replace(
        base, start_at=start_at, end_at=end_at, flags=flags,
        users=tuple(given.get("users", base.users)), accounts=tuple(given.get("accounts", base.accounts)),
        partition=given.get("partition", base.partition), comment=given.get("comment", base.comment),
    )  # fmt: skip
    if not wanted.users and not wanted.accounts:
        _refuse("Either Users/Groups and/or Accounts must be specified.")
    if wanted.partition is not None and wanted.partition not in cluster.partitions:
        _refuse("Invalid partition name specified")
    return replace(wanted, nodes=_choose_nodes(cluster, wanted, given))


def _choose_nodes(cluster: "Cluster", wanted: Reservation, given: Mapping[str, Any]) -> tuple[str, ...]:
    partition = wanted.partition or cluster.default_partition
    inside = [n.name for n in cluster.nodes.values() if wanted.partition is None or partition in n.config.partitions]
    names = given.get("nodes")
    if names == ["ALL"] or (names is None and "node_count" not in given and not wanted.nodes):
        return tuple(sorted(inside, key=split_name))
    if names is not None:
        if any(name not in cluster.nodes for name in names):
            _refuse("Invalid node name specified")
        return tuple(sorted(dict.fromkeys(names), key=split_name))
    if "node_count" not in given:
        return wanted.nodes
    count = given["node_count"]
    free = [
        n for n in cluster.nodes.values()
        if partition in n.config.partitions and n.usable and not _others_of(cluster, wanted, n.name)
        and (not n.jobs or not _needs_idle(wanted))
    ]  # fmt: skip
    if len(free) < count:
        _refuse("Requested nodes are busy", f"{count} nodes asked, {len(free)} are free in that time")
    free.sort(key=lambda n: (n.name not in wanted.nodes, len(n.jobs), split_name(n.name)))
    return tuple(sorted((n.name for n in free[:count]), key=split_name))


def _check_nodes(cluster: "Cluster", wanted: Reservation) -> None:
    for name in wanted.nodes:
        others = _others_of(cluster, wanted, name)
        if others:
            _refuse("Requested reservation overlaps with another reservation", f"{name}: {others[0]}; Flags=OVERLAP allows it")
        busy = cluster.nodes[name].jobs if name in cluster.nodes else set()
        late = [i for i in sorted(busy) if _ends_late(cluster, i, wanted)]
        if late and _needs_idle(wanted):
            _refuse("Requested nodes are busy", f"{name} runs job {late[0]}; Flags=IGNORE_JOBS lets it go on")


def _needs_idle(wanted: Reservation) -> bool:
    return not {"IGNORE_JOBS", "MAINT"} & set(wanted.flags)


def _ends_late(cluster: "Cluster", job_id: int, wanted: Reservation) -> bool:
    """Whether a running job that is not of the reservation may still be there when it begins."""
    job = cluster.jobs[job_id]
    if wanted.name in job.spec.reservations:
        return False
    limit_s = job.spec.time_limit_s
    return limit_s is None or job.start_at is None or job.start_at + limit_s > wanted.start_at


def _others_of(cluster: "Cluster", wanted: Reservation, node: str) -> list[str]:
    """Return the reservations that have the node at the same time, unless one of the two may overlap."""
    if {"OVERLAP", "MAINT"} & set(wanted.flags):
        return []
    return [
        r.name for r in cluster.reservations.values()
        if r.name != wanted.name and node in r.nodes and r.overlaps(wanted.start_at, wanted.end_at) and "OVERLAP" not in r.flags
    ]  # fmt: skip


def _delete(cluster: "Cluster", event: "ReservationChanged") -> str:
    name = event.name or ""
    if name not in cluster.reservations:
        _refuse(INVALID)
    if any(name in j.spec.reservations and j.state not in FINAL and not j.released for j in cluster.jobs.values()):
        _refuse("Requested reservation is in use")
    del cluster.reservations[name]
    cluster.store_row(Withdrawn(kind="reservation", name=name))
    cluster.schedule_wanted = True
    _audit(cluster, event, name)
    return name


def _make_name(cluster: "Cluster", owners: list[str]) -> str:
    base = owners[0] if owners else "resv"
    number = 1
    while f"{base}_{number}" in cluster.reservations:
        number += 1
    return f"{base}_{number}"


def _audit(cluster: "Cluster", event: "ReservationChanged", name: str) -> None:
    cluster.emit(Audit(verb=f"reservation {event.verb}", uid=event.uid, target=name, result="done"))


def _refuse(message: str, *detail: str) -> NoReturn:
    raise RefusedError(message, code="bad_request", detail=detail)
