"""A cluster in a test's words: nodes, jobs by name, passes, news from nodes, and what became of it.

    s = Scenario().nodes("n[1-2]", cpus=4)
    s.submit("a", num_tasks=4)
    assert s.plan() == {"a": "n1"}
    s.started("a").ended("a", code=0)
    assert s.state("a") == "COMPLETED"

Time stands still but for `wait`.  Every row and effect is kept; `rows` folds them as the store does.
"""

from dataclasses import replace
from typing import Self

from core.plain_schedule import schedule_plainly
from sshq.core import events as ev
from sshq.core.cluster import Cluster
from sshq.core.effects import AckLaunches, Changes, Effect, FenceLaunch, KillLaunch, StartLaunch
from sshq.core.gpus import Gpu, GpuLimit
from sshq.core.hostlist import expand_hostlist
from sshq.core.lifecycle import FINAL
from sshq.core.model import (
    Accounting,
    Job,
    JobSpec,
    Launch,
    NodeConfig,
    NodeFacts,
    NodeRecord,
    PartitionConfig,
    Purged,
)
from sshq.core.schedule import schedule

ANNA, BERT, ROOT = 1000, 1001, 0


def make_spec(name: str = "job", **fields: object) -> JobSpec:
    """A spec of Anna's with what is irrelevant filled in."""
    plain = {"uid": ANNA, "user": "anna", "gid": 100, "group": "users", "script": "s" * 8, "environ": f"env-{name}"}
    return JobSpec(name=name, **{**plain, **fields})


class Rows:
    """What the store would hold: the newest row of each key."""

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self.purged: dict[int, Job] = {}
        self.launches: dict[str, Launch] = {}
        self.nodes: dict[str, NodeRecord] = {}
        self.accounting: list[Accounting] = []

    def take(self, changes: Changes) -> None:
        for row in changes.rows:
            match row:
                case Job():
                    self.jobs[row.job_id] = row
                case Launch():
                    known = self.launches.get(row.id)
                    assert known is None or known.outcome is None, f"{row.id} was settled already"
                    self.launches[row.id] = row
                case NodeRecord():
                    self.nodes[row.name] = row
                case Accounting():
                    self.accounting.append(row)
                case Purged():
                    self.purged[row.job_id] = self.jobs.pop(row.job_id)

    def settled(self) -> frozenset[str]:
        """Launches that the store knows to be over: what a link asks it for with each listing."""
        return frozenset(i for i, launch in self.launches.items() if launch.outcome is not None)

    def open_launches(self) -> list[Launch]:
        return [launch for launch in self.launches.values() if launch.outcome is None]


class Scenario:
    def __init__(self) -> None:
        self.now = 1000.0
        self.cluster = Cluster(store_id="store", epoch=1)
        self.rows = Rows()
        self.effects: list[Effect] = []
        self.last: Changes = Changes(rows=[], effects=[])
        self.ids: dict[str, int] = {}
        self.configs: dict[str, NodeConfig] = {}
        self.gpus: dict[str, tuple[Gpu, ...]] = {}
        self.partitions: dict[str, PartitionConfig] = {}
        self.connections = 0
        self.passes = 0

    # ---- nodes -----------------------------------------------------------------------------------------------

    def nodes(
        self, names: str, *, cpus: int = 4, memory_mib: int = 8000, partitions: tuple[str, ...] = ("lab",), connected: bool = True,
        slots: int | None = None, features: tuple[str, ...] = (), weight: int = 1, gpus: tuple[str, ...] = (),
        limit: GpuLimit | None = None,
    ) -> Self:  # fmt: skip
        """Add nodes; `gpus` are the types of what their probes find."""
        new = expand_hostlist(names)
        for name in new:
            self.configs[name] = NodeConfig(
                name=name, cpus=cpus, memory_mib=memory_mib, partitions=partitions, slots=slots, features=features, weight=weight,
                gpus=limit,
            )  # fmt: skip
            self.gpus[name] = tuple(Gpu(id=f"{name}-{i}", index=i, type=kind) for i, kind in enumerate(gpus))
        for partition in partitions:
            old = self.partitions.get(partition, PartitionConfig(name=partition, default=not self.partitions))
            self.partitions[partition] = replace(old, nodes=(*old.nodes, *new))
        self.load()
        for name in new if connected else ():
            self.connect(name)
        return self

    def partition(self, name: str, **fields: object) -> Self:
        """Change a partition's configuration."""
        self.partitions[name] = replace(self.partitions.get(name, PartitionConfig(name=name)), **fields)
        return self.load()

    def load(self) -> Self:
        return self.feed(
            ev.InventoryLoaded(now=self.now, nodes=tuple(self.configs.values()), partitions=tuple(self.partitions.values()))
        )

    def remove_node(self, name: str) -> Self:
        del self.configs[name]
        self.partitions = {
            p.name: replace(p, nodes=tuple(n for n in p.nodes if n != name)) for p in self.partitions.values()
        }
        return self.load()

    def connect(
        self, name: str, *entries: ev.NodeEntry, boot: str | None = None, spool: str | None = None, generation: int = 0
    ) -> Self:  # fmt: skip
        """The node is back: of the boot and spool it had unless said otherwise."""
        node = self.cluster.nodes[name]
        config = node.config
        return self.feed(
            ev.NodeConnected(
                now=self.now, name=name, generation=max(generation, node.record.generation + 1),
                boot=boot or node.record.boot or f"boot-{name}", spool_id=spool or node.record.spool_id or f"spool-{name}",
                machine_id=f"machine-{name}", uid=ANNA,
                facts=NodeFacts(cpus=config.cpus or 4, memory_mib=config.memory_mib or 8000, gpus=self.gpus.get(name, ())),
                facts_json="{}", entries=entries, settled=self.rows.settled(),
            )
        )  # fmt: skip

    def lose(self, name: str) -> Self:
        return self.feed(ev.NodeLost(now=self.now, name=name, note="no route to host"))

    def sweep(self, name: str, *entries: ev.NodeEntry, sent: tuple[str, ...] = ()) -> Self:
        """A listing on the live connection; `sent` names jobs whose launches had been written to it."""
        return self.feed(
            ev.NodeListed(
                now=self.now, name=name, generation=self.cluster.nodes[name].record.generation, entries=entries,
                sent=frozenset(self.launch_id(job) for job in sent), settled=self.rows.settled(),
            )
        )  # fmt: skip

    def entry(self, job: str, *, go: str = "file", alive: bool = False, record: ev.EndRecord | None = None) -> ev.NodeEntry:
        """What a listing shows of the job's newest launch."""
        launch = self.rows.launches[self.launch_id(job)]
        return ev.NodeEntry(
            launch_id=launch.id, seq=launch.seq, job_id=launch.job_id, attempt=launch.attempt, go=go, supervisor_alive=alive,
            job_alive=alive, record=record,
        )  # fmt: skip

    def set_node(self, name: str, state: str, reason: str | None = "because") -> Self:
        return self.feed(ev.NodeUpdated(now=self.now, name=name, state=state, reason=reason, uid=ROOT, user="root"))

    # ---- jobs ------------------------------------------------------------------------------------------------

    def submit(self, name: str, *, array: str | None = None, held: bool = False, token: str | None = None, **fields: object) -> int:
        spec = make_spec(name, **fields)
        self.feed(ev.Submitted(now=self.now, spec=spec, script=b"#!/bin/sh\n", array=array, held=held, token=token))
        job_id = self.last.result
        assert isinstance(job_id, int)
        self.ids[name] = job_id
        return job_id

    def id(self, job: str) -> int:
        """The raw id of "a", or of the task "a_3" if it has one of its own."""
        if job in self.ids:
            return self.ids[job]
        name, _, task = job.rpartition("_")
        members = [j for j in self.every_job().values() if j.array_job_id == self.ids[name]]
        return next(j.job_id for j in members if j.array_task_id == int(task))

    def every_job(self) -> dict[int, Job]:
        return {**self.rows.purged, **self.cluster.jobs}

    def job(self, job: str) -> Job:
        return self.every_job()[self.id(job)]

    def state(self, job: str) -> str:
        return self.job(job).state.name

    def states(self, *jobs: str) -> list[str]:
        return [self.state(job) for job in jobs]

    def reason(self, job: str) -> str:
        """Its own reason, else what its group met in the last pass."""
        found = self.job(job)
        request = self.cluster.pending.request(found.job_id)
        return self.cluster.pending.blocked(found.job_id) or "None" if found.reason == "None" and request else found.reason

    def launch_id(self, job: str) -> str:
        found = self.job(job).launch_id
        assert found is not None
        return found

    def outcomes(self, job: str) -> list[str]:
        """How each attempt ended, in order."""
        return [row.outcome.name for row in self.rows.accounting if row.job_id == self.id(job) and not row.rank]

    def name_of(self, job_id: int) -> str:
        found = self.cluster.jobs[job_id]
        number = found.array_job_id or job_id
        name = next((name for name, i in self.ids.items() if i == number), str(number))
        return name if found.array_task_id is None else f"{name}_{found.array_task_id}"

    # ---- passes and news -------------------------------------------------------------------------------------

    def feed(self, event: ev.Event) -> Self:
        self.last = self.cluster.apply(event)
        self.rows.take(self.last)
        self.effects += self.last.effects
        return self

    def plan(self) -> dict[str, str]:
        """One scheduling pass, carried out: which job was sent where."""
        expected = schedule_plainly(self.cluster, self.now)
        planned = schedule(self.cluster, self.now)
        assert (planned.starts, planned.more) == (expected.starts, expected.more)
        assert {request: group.blocked for request, group in self.cluster.pending.groups.items()} == expected.blocked
        assert self.cluster.pending.planned == expected.planned
        self.passes += 1
        self.feed(ev.Planned(now=self.now, starts=planned.starts, random=self.passes.to_bytes(16, "big")))
        assert self.last.result == len(planned.starts), "part of a fresh plan was not carried out"
        return {self.name_of(e.job.job_id): e.job.nodes[0] for e in self.last.effects if isinstance(e, StartLaunch)}

    def started(self, *jobs: str) -> Self:
        """Their launches have started: on several nodes, the parts first, or the script is not sent."""
        for job in jobs:
            self.part_started(job, *range(len(self.job(job).part_launches)))
            self.feed(ev.LaunchStarted(now=self.now, launch_id=self.launch_id(job), pid=77))
        return self

    def ended(self, *jobs: str, how: str = "exit", **record: object) -> Self:
        """Their scripts have ended, and then what of them runs on other nodes, as it is told to."""
        for job in jobs:
            self.script_ended(job, how=how, **record)
            last = self.last
            self.part_ended(job, *range(len(self.job(job).part_launches)), how="cancel", cancelled=True, signal=9)
            self.last = last
        return self

    def script_ended(self, job: str, *, how: str = "exit", **record: object) -> Self:
        return self.feed(ev.LaunchEnded(now=self.now, launch_id=self.launch_id(job), record=ev.EndRecord(how=how, **record)))

    def part_started(self, job: str, *parts: int) -> Self:
        for part in parts:
            self.feed(ev.LaunchStarted(now=self.now, launch_id=self.job(job).part_launches[part], pid=78))
        return self

    def part_ended(self, job: str, *parts: int, how: str = "exit", **record: object) -> Self:
        for part in parts:
            launch_id = self.job(job).part_launches[part]
            self.feed(ev.LaunchEnded(now=self.now, launch_id=launch_id, record=ev.EndRecord(how=how, **record)))
        return self

    def refused(self, job: str, why: str = "no space") -> Self:
        return self.feed(ev.LaunchRefused(now=self.now, launch_id=self.launch_id(job), why=why))

    def fenced(self, job: str, *, won: bool = True, forgotten: bool = False) -> Self:
        return self.feed(ev.FenceAnswered(now=self.now, launch_id=self.launch_id(job), won=won, forgotten=forgotten))

    def run_to_end(self, *jobs: str, **record: object) -> Self:
        """Plan, start and end these jobs."""
        self.plan()
        return self.started(*jobs).ended(*jobs, **record)

    def wait(self, seconds: float) -> Self:
        self.now += seconds
        return self.feed(ev.TimePassed(now=self.now))

    def control(
        self, verb: str, *jobs: str, uid: int = ANNA, admin: bool = False, tasks: tuple[int, ...] | None = None, **more: object
    ) -> list[str]:  # fmt: skip
        """A user's verb; the outcome for each job it meant."""
        targets = tuple(ev.Selected(job_id=self.id(job), tasks=tasks) for job in jobs)
        self.feed(ev.JobsControlled(now=self.now, verb=verb, uid=uid, admin=admin, targets=targets, **more))
        answers = self.last.result
        assert isinstance(answers, list)
        return [answer.outcome for answer in answers]

    def purge(self, **which: object) -> Self:
        return self.feed(ev.PurgeAsked(now=self.now, **which))

    def restart(self, epoch: int = 2) -> Self:
        """The controller ended and starts from its rows; no node is connected."""
        fresh = Cluster(
            store_id="store", epoch=epoch, next_job_id=self.cluster.next_job_id,
            next_order=max((j.order for j in self.rows.jobs.values()), default=0) + 1,
        )  # fmt: skip
        fresh.restore(list(self.rows.jobs.values()), self.rows.open_launches(), list(self.rows.nodes.values()), self.now)
        self.cluster = fresh
        return self.load()

    # ---- what was ordered ------------------------------------------------------------------------------------

    def kills(self) -> list[int]:
        """Signals ordered by the last event."""
        return [e.signal for e in self.last.effects if isinstance(e, KillLaunch)]

    def fences(self) -> list[str]:
        return [e.launch_id for e in self.last.effects if isinstance(e, FenceLaunch)]

    def acked(self) -> list[str]:
        return [i for e in self.last.effects if isinstance(e, AckLaunches) for i in e.launch_ids]

    def all_final(self) -> bool:
        return all(job.state in FINAL for job in self.cluster.jobs.values())


def what_lasts(cluster: Cluster) -> dict[str, object]:
    """All that a restart must find again."""
    return {
        "jobs": cluster.jobs,
        "launches": cluster.launches,
        "nodes": {
            n.name: (n.record, n.jobs, n.slots_taken, n.cpus_taken, n.memory_taken_mib, n.exclusive) for n in cluster.nodes.values()
        },
        "pending": {i: cluster.pending.request(i) for i in cluster.pending},
        "places": {request: list(group.keys) for request, group in cluster.pending.groups.items()},
        "index": (+cluster.index.states, cluster.index.final, cluster.index.outputs_pending, cluster.index.directories),
        "array_sets": {i: list(tasks) for i, tasks in cluster.array_sets.items()},
        "array_members": cluster.array_members,
        "array_active": cluster.array_active,
        "dependents": cluster.dependents.by_target,
        "singletons": cluster.dependents.singletons,
        "node_launches": {name: ids for name, ids in cluster.node_launches.items() if ids},
        "environments": cluster.environments,
    }
