"""Random lives of a small cluster: nothing given twice, nothing started twice, nothing lost, and in the end nothing waits.

The nodes here are a tiny model that really "runs" launches, by the protocol's rules: an exclusive `go`, a floor that is
read after it, generations, and calls that arrive late.  It counts starts itself.  After every step the cluster is held
against it, and against a second cluster built from the stored rows.
"""

import os
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from model_node import REQUESTS, Directory, ModelNode
from scenario import ANNA, ROOT, Scenario, what_lasts

from sshq.core import events as ev
from sshq.core.arrays import parse_indices
from sshq.core.cluster import Cluster
from sshq.core.effects import AckLaunches, Effect, FenceLaunch, KillLaunch, StartLaunch
from sshq.core.lifecycle import FINAL, State
from sshq.core.model import SEQ_PER_GENERATION, Job, Outcome
from sshq.core.schedule import schedule

EXAMPLES = int(os.environ.get("SSHQ_EXAMPLES", "30"))  # more of them, if there is time
NAMES = ("n1", "n2", "n3")
LAUNCHED = (State.CONFIGURING, State.RUNNING, State.SUSPENDED)


class Lives(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.s = Scenario()
        self.model: dict[str, ModelNode] = {}
        self.starts: Counter[str] = Counter()
        self.records: dict[str, ev.EndRecord] = {}
        self.submitted: dict[int, tuple[int, ...] | None] = {}  # id -> tasks of an array
        self.effects_seen = 0

    # ---- the model -------------------------------------------------------------------------------------------

    @initialize(cpus=st.sampled_from([1, 2, 3]), connected=st.sets(st.sampled_from(NAMES)), jobs=st.lists(REQUESTS, max_size=6))
    def set_up(self, cpus: int, connected: set[str], jobs: list[dict[str, Any]]) -> None:
        self.s.nodes("n[1-3]", cpus=cpus, memory_mib=1000, connected=False)
        self.model = {name: ModelNode(name=name) for name in NAMES}
        for name in sorted(connected):
            self.connect(name)
        for asked in jobs:
            self.submit(asked)

    def settle_effects(self) -> None:
        """Hand the new orders to the nodes they are for; what has no connection is dropped, as a link does."""
        new, self.effects_seen = self.s.effects[self.effects_seen :], len(self.s.effects)
        for effect in new:
            self.check_effect(effect)
            node = self.model.get(getattr(effect, "node", ""))
            if node is None or not node.connected:
                continue
            if isinstance(effect, StartLaunch):
                if effect.launch.seq // SEQ_PER_GENERATION != node.generation:
                    continue
                node.sent.add(effect.launch.id)
            node.orders.append(effect)

    def check_effect(self, effect: Effect) -> None:
        known = self.s.rows.launches
        match effect:
            case StartLaunch():
                assert effect.launch.id in known
                assert effect.launch.id not in self.starts
            case FenceLaunch() | KillLaunch():
                assert effect.launch_id in known
            case AckLaunches():
                assert all(known[i].outcome is not None for i in effect.launch_ids)

    def feed(self, event: ev.Event) -> None:
        self.s.feed(event)
        self.settle_effects()

    def arrive(self, node: ModelNode, order: Effect) -> None:
        match order:
            case StartLaunch():
                self.arrive_start(node, order)
            case FenceLaunch():
                self.arrive_fence(node, order.launch_id, order.seq)
            case KillLaunch():
                if order.cancel:
                    self.arrive_kill(node, order)
            case AckLaunches():
                node.raise_floor(order.high, frozenset(order.open_seqs))
                for launch_id in order.launch_ids:
                    gone = node.directories.pop(launch_id, None)
                    assert gone is None or not gone.alive, "the directory of a running launch was removed"

    def arrive_start(self, node: ModelNode, order: StartLaunch) -> None:
        launch = order.launch
        if launch.boot != f"boot-{node.name}-{node.boot}" or node.is_settled(launch.seq) or node.refusing:
            node.news.append(ev.LaunchRefused(now=self.s.now, launch_id=launch.id, why="refused"))
        elif launch.id in node.directories:
            node.news.append(self.listing(node, launch.id))
        else:
            node.directories[launch.id] = Directory(
                seq=launch.seq, job_id=launch.job_id, attempt=launch.attempt, rank=launch.rank
            )

    def arrive_fence(self, node: ModelNode, launch_id: str, seq: int) -> None:
        d = node.directories.setdefault(launch_id, Directory(seq=seq))
        if d.go:
            if d.go == "file":
                node.news.append(self.listing(node, launch_id))
            else:
                node.news.append(ev.FenceAnswered(now=self.s.now, launch_id=launch_id, won=True))
            return
        if node.is_settled(seq):
            del node.directories[launch_id]
            node.news.append(ev.FenceAnswered(now=self.s.now, launch_id=launch_id, won=False, forgotten=True))
            return
        d.go = "dir"
        node.news.append(ev.FenceAnswered(now=self.s.now, launch_id=launch_id, won=True))

    def arrive_kill(self, node: ModelNode, order: KillLaunch) -> None:
        d = node.directories.get(order.launch_id)
        if d is None or d.go != "file":
            self.arrive_fence(node, order.launch_id, order.seq)
        elif d.alive:
            self.end_process(node, order.launch_id, ev.EndRecord(how="signal", signal=15, cancelled=True))

    def supervise(self, node: ModelNode, launch_id: str) -> None:
        """A claimed launch goes on: it takes `go`, reads the floor, and only then starts its job."""
        d = node.directories[launch_id]
        d.go = "file"
        if node.is_settled(d.seq):
            d.record = ev.EndRecord(how="never", why="settled before")
            node.news.append(ev.LaunchEnded(now=self.s.now, launch_id=launch_id, record=d.record))
            return
        running = [o for m in self.model.values() for o in m.directories.values() if o.alive and o.job_id == d.job_id]
        assert all(o.attempt == d.attempt for o in running), f"two attempts of job {d.job_id} run at once"
        assert all(o.rank != d.rank for o in running), f"two launches of one rank of job {d.job_id} run at once"
        if not d.rank:
            parts = self.s.rows.jobs[d.job_id].part_launches if d.job_id in self.s.rows.jobs else ()
            assert all(self.starts[part] for part in parts), "a script was started before the parts of its job"
        self.starts[launch_id] += 1
        assert self.starts[launch_id] == 1, f"{launch_id} was started twice"
        d.alive = True
        node.news.append(ev.LaunchStarted(now=self.s.now, launch_id=launch_id, pid=5))

    def end_process(self, node: ModelNode, launch_id: str, record: ev.EndRecord) -> None:
        d = node.directories[launch_id]
        d.alive, d.record = False, record
        self.records[launch_id] = record
        node.news.append(ev.LaunchEnded(now=self.s.now, launch_id=launch_id, record=record))

    def listing(self, node: ModelNode, launch_id: str) -> ev.NodeListed:
        return ev.NodeListed(
            now=self.s.now, name=node.name, generation=node.generation, entries=(node.entry(launch_id),), sent=frozenset()
        )

    def cut(self, node: ModelNode) -> None:
        node.connected = False
        node.late += [order for order in node.orders if isinstance(order, StartLaunch)]
        node.orders.clear()
        node.news.clear()
        node.sent.clear()

    # ---- what happens ----------------------------------------------------------------------------------------

    @rule(asked=REQUESTS)
    def submit(self, asked: dict[str, Any]) -> None:
        cpus = self.s.configs["n1"].cpus or 1
        array, begin, relation, back = asked["array"], asked["begin"], asked["relation"], asked["back"]
        dependency = relation if relation == "singleton" else None
        if relation and not dependency and len(self.submitted) >= back:
            dependency = f"{relation}:{list(self.submitted)[-back]}"
        job_id = self.s.submit(
            asked["name"], array=f"0-{array - 1}" if array else None, held=asked["held"],
            num_tasks=max(min(asked["tasks"], cpus), asked["nodes"]), num_nodes=asked["nodes"],
            memory_mib=asked["memory"], array_limit=asked["limit"] if array else None, retries=asked["retries"],
            requeue=asked["requeue"], exclusive=asked["exclusive"], priority=asked["priority"], dependency=dependency,
            begin_at=self.s.now + begin if begin else None, kill_on_invalid_dep=asked["kill"], environ=f"env-{asked['name']}",
        )  # fmt: skip
        self.submitted[job_id] = tuple(range(array)) if array else None
        self.settle_effects()

    @rule()
    def run_a_pass(self) -> None:
        plan = schedule(self.s.cluster, self.s.now)
        self.s.cluster.nodes = dict(reversed(self.s.cluster.nodes.items()))
        assert schedule(self.s.cluster, self.s.now) == plan, "the plan depends on the order of the nodes"
        self.s.plan()
        self.settle_effects()

    @rule(name=st.sampled_from(NAMES))
    def connect(self, name: str) -> None:
        node = self.model[name]
        self.cut(node)
        cluster = self.s.cluster
        record = cluster.nodes[name].record
        old_open = frozenset(cluster.launches[i].seq for i in cluster.node_launches.get(name, ()))
        node.generation = max(node.generation, record.generation) + 1
        node.raise_floor(node.generation * SEQ_PER_GENERATION, old_open)
        node.connected = True
        self.s.connect(
            name, *node.entries(), boot=f"boot-{name}-{node.boot}", spool=f"spool-{name}", generation=node.generation
        )
        self.settle_effects()

    @rule(name=st.sampled_from(NAMES))
    def lose(self, name: str) -> None:
        self.cut(self.model[name])
        self.s.lose(name)
        self.settle_effects()

    @rule(name=st.sampled_from(NAMES))
    def reboot(self, name: str) -> None:
        node = self.model[name]
        self.cut(node)
        node.boot += 1
        for d in node.directories.values():
            d.alive = False
            d.go = d.go or "claimed-by-nobody"
        node.directories = {i: d for i, d in node.directories.items() if d.go != "claimed-by-nobody"}
        self.s.lose(name)
        self.settle_effects()

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 6))
    def orders_arrive(self, name: str, count: int) -> None:
        node = self.model[name]
        for _ in range(min(count, len(node.orders))):
            self.arrive(node, node.orders.popleft())

    @rule(name=st.sampled_from(NAMES))
    def a_late_call_arrives(self, name: str) -> None:
        node = self.model[name]
        if node.late:
            order = node.late.pop()
            news = len(node.news)
            self.arrive_start(node, order)
            while len(node.news) > news:  # its channel is gone: nobody hears the answer
                node.news.pop()

    @rule(name=st.sampled_from(NAMES))
    def claims_go_on(self, name: str) -> None:
        node = self.model[name]
        for launch_id in [i for i, d in node.directories.items() if not d.go]:
            self.supervise(node, launch_id)

    @rule(name=st.sampled_from(NAMES), code=st.sampled_from([0, 0, 1]))
    def a_job_ends(self, name: str, code: int) -> None:
        node = self.model[name]
        alive = [i for i, d in node.directories.items() if d.alive]
        if alive:
            self.end_process(node, alive[0], ev.EndRecord(how="exit", code=code, duration_s=1.0))

    def a_script_ends(self, name: str) -> None:
        """Not a part by itself: that would end its job, which may then begin again, for ever."""
        node = self.model[name]
        alive = [i for i, d in node.directories.items() if d.alive and not d.rank]
        if alive:
            self.end_process(node, alive[0], ev.EndRecord(how="exit", code=0, duration_s=1.0))

    @rule(name=st.sampled_from(NAMES))
    def a_job_and_its_supervisor_are_killed(self, name: str) -> None:
        alive = [d for d in self.model[name].directories.values() if d.alive]
        if alive:
            alive[0].alive = False

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 6))
    def news_arrive(self, name: str, count: int) -> None:
        node = self.model[name]
        for _ in range(min(count, len(node.news))):
            if node.news:
                self.feed(node.news.popleft())

    @rule(name=st.sampled_from(NAMES))
    def sweep(self, name: str) -> None:
        node = self.model[name]
        if not node.connected:
            return
        while node.orders and any(isinstance(o, StartLaunch) for o in node.orders):
            self.arrive(node, node.orders.popleft())  # the channel keeps the order: calls come before the listing
        sent = frozenset(node.sent)
        listing = ev.NodeListed(now=self.s.now, name=name, generation=node.generation, entries=node.entries(), sent=sent, settled=self.s.rows.settled())
        while node.news:  # and news before its answer
            self.feed(node.news.popleft())
        self.feed(listing)
        node.sent -= sent - set(node.directories)

    @rule(name=st.sampled_from(NAMES), codes=st.lists(st.sampled_from([0, 1]), max_size=3))
    def a_good_while_passes(self, name: str, codes: list[int]) -> None:
        """What happens on most days: jobs start, some end, all of it is heard."""
        if not self.model[name].connected:
            self.connect(name)
        self.run_a_pass()
        self.orders_arrive(name, 99)
        self.claims_go_on(name)
        self.news_arrive(name, 99)
        for code in codes:
            self.a_job_ends(name, code)
        self.news_arrive(name, 99)

    @rule(codes=st.lists(st.sampled_from([0, 1]), max_size=2))
    def a_good_while_passes_everywhere(self, codes: list[int]) -> None:
        for name in NAMES:
            self.a_good_while_passes(name, codes)

    @rule(name=st.sampled_from(NAMES))
    def refuse_for_a_while(self, name: str) -> None:
        self.model[name].refusing = not self.model[name].refusing

    @rule(name=st.sampled_from(NAMES), state=st.sampled_from(["drain", "resume"]))
    def drain_or_resume(self, name: str, state: str) -> None:
        self.s.set_node(name, state)
        self.settle_effects()

    @precondition(lambda self: self.submitted)
    @rule(
        which=st.integers(0, 20), verb=st.sampled_from(["cancel", "hold", "release", "requeue", "suspend", "resume", "update"]),
        task=st.sampled_from([None, None, 0, 1, 3]), admin=st.booleans(), hold=st.booleans(),
    )  # fmt: skip
    def control(self, which: int, verb: str, task: int | None, admin: bool, hold: bool) -> None:
        job_id = list(self.submitted)[which % len(self.submitted)]
        changes = {"num_tasks": 1, "comment": "changed"} if verb == "update" else None
        self.feed(
            ev.JobsControlled(
                now=self.s.now, verb=verb, uid=ROOT if admin else ANNA, admin=admin, hold=hold, changes=changes,
                targets=(ev.Selected(job_id=job_id, tasks=None if task is None else (task,)),),
            )
        )  # fmt: skip

    @rule(seconds=st.sampled_from([1, 30, 120]))
    def wait(self, seconds: int) -> None:
        self.s.wait(seconds)
        self.settle_effects()

    @rule(keep=st.integers(0, 3))
    def purge(self, keep: int) -> None:
        self.s.purge(keep=keep)

    @rule()
    def the_controller_restarts(self) -> None:
        for node in self.model.values():
            self.cut(node)
        self.s.restart(self.s.cluster.epoch + 1)
        self.s.feed(ev.TimePassed(now=self.s.now))
        self.settle_effects()

    # ---- what must always hold -------------------------------------------------------------------------------

    @invariant()
    def nothing_is_given_twice(self) -> None:
        for node in self.s.cluster.nodes.values():
            jobs = [j for j in self.s.cluster.jobs.values() if not j.released and node.name in j.nodes]
            shares = [share for j in jobs for share in j.shares() if share.node == node.name]
            slots = [slot for share in shares for slot in share.slots]
            assert len(slots) == len(set(slots))
            assert all(share.slots for share in shares)
            assert all(sum(len(share.slots) for share in j.shares()) >= j.spec.num_tasks for j in jobs)
            assert node.jobs == {j.job_id for j in jobs}
            assert node.slots_taken == set(slots)
            assert node.cpus_taken == sum(share.cpus for share in shares) <= node.cpus
            assert node.memory_taken_mib == sum(share.memory_mib for share in shares) <= node.memory_mib
            assert node.free_slots >= 0
            assert node.exclusive == any(j.spec.exclusive for j in jobs)
            assert not node.exclusive or len(jobs) == 1

    @invariant()
    def a_launched_job_has_open_launches_and_others_none(self) -> None:
        cluster = self.s.cluster
        open_of = Counter(launch.job_id for launch in cluster.launches.values())
        for job in cluster.jobs.values():
            mine = {i for i, launch in cluster.launches.items() if launch.job_id == job.job_id}
            assert open_of[job.job_id] == len(mine)
            assert bool(mine) == (job.state in LAUNCHED)
            assert job.released == (job.state not in LAUNCHED)
            if job.state in LAUNCHED:
                assert mine <= {job.launch_id, *job.part_launches}
                assert (job.launch_id in mine) == (job.verdict is None)
                held = [i for i in mine if cluster.launches[i].held]
                assert not held or (held == [job.launch_id] and job.launch_id not in self.starts)
            else:
                assert job.verdict is None

    @invariant()
    def each_settled_launch_has_one_row_of_accounting(self) -> None:
        settled = [i for i, launch in self.s.rows.launches.items() if launch.outcome is not None]
        assert sorted(row.launch_id for row in self.s.rows.accounting) == sorted(settled)
        for row in self.s.rows.accounting:
            if row.outcome is Outcome.NEVER_STARTED:
                assert self.starts[row.launch_id] == 0, "what was called never started did start"

    @invariant()
    def a_verdict_has_its_evidence(self) -> None:
        for job in self.s.every_job().values():
            record = self.records.get(job.launch_id or "")
            if job.state is State.COMPLETED:
                assert record is not None
                assert (record.code, record.signal) == (0, None)
            if job.state is State.FAILED and job.cancel_uid is None:
                assert job.failures == job.spec.retries, "a failure that will be retried was shown as final"

    @invariant()
    def no_job_is_lost(self) -> None:
        known = self.s.every_job().values()
        cluster = self.s.cluster
        for job_id, tasks in self.submitted.items():
            if tasks is None:
                assert job_id in self.s.every_job()
                continue
            found = [j.array_task_id for j in known if j.array_job_id == job_id and j.array_task_id is not None]
            for record in (j for j in known if j.array_job_id == job_id and j.is_array_record):
                left = cluster.array_sets[record.job_id] if record.job_id in cluster.jobs else _tasks_of(record)
                assert list(left) == list(_tasks_of(record))
                found += list(left)
            assert sorted(found) == list(tasks)
        for job in cluster.jobs.values():
            may_start = job.state is State.PENDING and not cluster.waiting_reason(job, self.s.now)
            assert (job.job_id in cluster.pending) == may_start, f"job {job.job_id} {job.reason} is forgotten by the scheduler"

    @invariant()
    def an_array_keeps_its_limit(self) -> None:
        active = Counter(j.array_job_id for j in self.s.cluster.jobs.values() if not j.released and j.array_job_id)
        assert active == self.s.cluster.array_active
        for job in self.s.cluster.jobs.values():
            assert job.spec.array_limit is None or active[job.array_job_id] <= job.spec.array_limit

    @invariant()
    def the_floor_lists_what_is_open_below_it(self) -> None:
        for name in self.s.cluster.nodes:
            high, open_seqs = self.s.cluster.floor_of(name)
            assert {la.seq for la in self.s.cluster.launches.values() if la.node == name and la.seq <= high} == set(open_seqs)
        seqs = Counter((la.node, la.seq) for la in self.s.rows.launches.values())
        assert not seqs or max(seqs.values()) == 1

    @invariant()
    def the_rows_hold_the_whole_cluster(self) -> None:
        copy = Cluster(store_id="store", epoch=9, next_job_id=self.s.cluster.next_job_id)
        rows = self.s.rows
        copy.restore(list(rows.jobs.values()), rows.open_launches(), list(rows.nodes.values()), self.s.now)
        copy.apply(
            ev.InventoryLoaded(now=self.s.now, nodes=tuple(self.s.configs.values()), partitions=tuple(self.s.partitions.values()))
        )
        assert what_lasts(copy) == what_lasts(self.s.cluster)

    # ---- and in the end --------------------------------------------------------------------------------------

    def teardown(self) -> None:
        if not self.model:
            return
        self.s.wait(1000)
        for node in self.model.values():
            node.refusing = False
            self.s.set_node(node.name, "resume")
            self.connect(node.name)
        for job_id in self.submitted:
            self.control_all("release", job_id)
            self.control_all("resume", job_id)
        for _ in range(60):
            self.run_a_pass()
            for name in NAMES:
                self.orders_arrive(name, 99)
                self.claims_go_on(name)
                for _ in range(4):
                    self.a_script_ends(name)
                self.news_arrive(name, 99)
                self.sweep(name)
            if self.s.all_final():
                break
            for job in list(self.s.cluster.jobs.values()):
                if job.held:
                    self.control_all("release", job.job_id)
                if job.reason == "DependencyNeverSatisfied":
                    self.control_all("cancel", job.job_id)
                if job.state is State.SUSPENDED:
                    self.control_all("resume", job.job_id)
        left = {j.job_id: (j.state.name, j.reason) for j in self.s.cluster.jobs.values() if j.state not in FINAL}
        assert not left, f"these wait for ever: {left}"
        assert all(not n.jobs and not n.slots_taken and not n.cpus_taken for n in self.s.cluster.nodes.values())
        for name in NAMES:
            for _ in range(2):
                self.sweep(name)
                self.orders_arrive(name, 99)
            assert not self.model[name].directories, "something of ours is left on a node"

    def control_all(self, verb: str, job_id: int) -> None:
        self.feed(ev.JobsControlled(now=self.s.now, verb=verb, uid=ROOT, admin=True, targets=(ev.Selected(job_id=job_id),)))


def _tasks_of(record: Job) -> list[int]:
    return list(parse_indices(record.array_tasks or ""))


@pytest.mark.parametrize("steps", [15, 50])
def test_whatever_happens_nothing_is_given_or_started_twice_and_nothing_is_lost(steps: int) -> None:
    quiet = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    run_state_machine_as_test(
        Lives, settings=settings(max_examples=EXAMPLES, stateful_step_count=steps, deadline=None, suppress_health_check=quiet)
    )
