"""What a pass keeps from the one before never makes it plan otherwise than one that judges every node anew.

`Scenario.plan` compares the two on each pass of every test; here cases are drawn that change nodes, partitions,
directories, reservations and GPUs between passes.
"""

import random
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st
from scenario import Scenario

from sshq.core import candidates
from sshq.core import events as ev
from sshq.core import schedule as product
from sshq.core.candidates import ELSEWHERE, FITS
from sshq.core.gpus import Gpu, GpuUse
from sshq.core.lifecycle import State
from sshq.core.placement import judge
from sshq.core.pythons import PythonAnswer
from sshq.core.sortedkeys import BUCKET_MAX, SortedKeys
from sshq.errors import RefusedError


def make_world() -> Scenario:
    s = Scenario()
    s.nodes("n[1-4]", cpus=4, memory_mib=8000, partitions=("lab",))
    s.nodes("n[05-08]", cpus=8, memory_mib=16000, partitions=("lab", "big"), features=("ssd",), weight=2)
    s.nodes("g[1-2]", cpus=8, memory_mib=16000, partitions=("lab", "gpu"), gpus=("a100", "a100"))
    s.nodes("late", cpus=2, partitions=("big",), connected=False)
    s.cluster.licenses = {"seat": 3}
    return s


def draw_wish(pick: random.Random) -> dict[str, object]:
    wish: dict[str, object] = {"partitions": pick.choice([("lab",), ("lab",), ("big",), ("gpu",), ("lab", "big")])}
    wish["cpus_per_task"] = pick.choice([1, 1, 2, 3])
    wish["num_tasks"] = pick.choice([1, 1, 2, 4])
    for name, values in {
        "memory_mib": [None, 1000, 6000], "features": [None, None, "ssd"], "exclusive": [False, False, False, True],
        "req_nodes": [(), (), ("n2",)], "exc_nodes": [(), (), ("n1", "n06")], "licenses": [None, None, "seat", "seat:2"],
        "prefer": [None, None, "ssd"], "time_limit_s": [None, 60, 7200], "nice": [0, 0, 50], "uid": [1000, 1001],
    }.items():  # fmt: skip
        wish[name] = pick.choice(values)
    if pick.random() < 0.15:
        wish |= {"num_nodes": 2, "nodes_given": True, "num_tasks": pick.choice([2, 3, 6]), "req_nodes": ()}
    if pick.random() < 0.15:
        wish["gpus_per_node"] = pick.choice(["1", "a100:2"])
    if pick.random() < 0.1:
        wish["python"] = "3.11"
    if pick.random() < 0.3:
        wish |= {"tree": pick.choice("12") * 64, "frozen": pick.random() < 0.5}
    if pick.random() < 0.3:
        wish |= {"provable": True, "work_dir": pick.choice(["/home/a", "/home/b"])}
    return wish


class World:
    """Moves that change what a pass looks at."""

    def __init__(self, seed: int) -> None:
        self.pick = random.Random(seed)
        self.s = make_world()
        self.count = 0

    def move(self) -> None:
        with suppress(RefusedError):  # asked too much: as good a move as any
            getattr(self, self.pick.choice(MOVES))()

    def any_node(self) -> str:
        return self.pick.choice(sorted(self.s.cluster.nodes))

    def submit(self) -> None:
        self.count += 1
        array = self.pick.choice([None, None, None, "0-5", "0-9"])
        wish = draw_wish(self.pick)
        if array and self.pick.random() < 0.5:
            wish["array_limit"] = 2
        self.s.submit(f"j{self.count}", array=array, **wish)

    def end(self) -> None:
        s = self.s
        alive = [j for j in s.cluster.jobs.values() if j.state is State.CONFIGURING or j.state is State.RUNNING]
        for job in self.pick.sample(alive, min(len(alive), 3)):
            for launch in [launch for launch in s.cluster.launches.values() if launch.job_id == job.job_id]:
                record = ev.EndRecord(how="exit", code=0)
                s.feed(ev.LaunchStarted(now=s.now, launch_id=launch.id, pid=1))
                s.feed(ev.LaunchEnded(now=s.now, launch_id=launch.id, record=record))

    def lose(self) -> None:
        self.s.lose(self.any_node())

    def connect(self) -> None:
        down = [name for name, node in sorted(self.s.cluster.nodes.items()) if not node.connected and name in self.s.configs]
        if down:
            self.s.connect(self.pick.choice(down))

    def drain(self) -> None:
        self.s.set_node(self.any_node(), self.pick.choice(["drain", "resume"]))

    def change_node(self) -> None:
        s, name = self.s, self.any_node()
        weight, features = self.pick.choice([None, 1, 7]), self.pick.choice([None, ("ssd",), ()])
        s.feed(ev.NodeUpdated(now=s.now, name=name, state="", reason=None, uid=0, user="root", weight=weight, features=features))

    def change_partition(self) -> None:
        self.s.partition(self.pick.choice(["lab", "big"]), up=self.pick.random() < 0.7, max_time_s=self.pick.choice([None, 3600]))

    def prove(self) -> None:
        s = self.s
        path, shared = self.pick.choice(["/home/a", "/home/b"]), self.pick.random() < 0.7
        s.feed(ev.DirectoryProved(now=s.now, path=path, node=self.any_node(), shared=shared))

    def find_python(self) -> None:
        s, path = self.s, self.pick.choice([None, "/usr/bin/python3"])
        s.feed(ev.PythonFound(now=s.now, node=self.any_node(), need="3.11", answer=PythonAnswer(path=path, detail="has 3.9")))

    def report_gpus(self) -> None:
        s, name = self.s, self.pick.choice(["g1", "g2"])
        gpus = tuple(Gpu(id=f"{name}-{i}", index=i, type="a100") for i in range(2))
        uses = (GpuUse(id=f"{name}-1", pid=9, user="zoe"),) if self.pick.random() < 0.5 else ()
        s.feed(ev.GpusReported(name=name, gpus=gpus, uses=uses, problem=self.pick.choice(["", "", "no answer"])))

    def refuse_room(self) -> None:
        room = self.pick.choice(["ok", "no-space"])
        self.s.feed(ev.LoadReported(name=self.any_node(), load=0.5, memory_free_mib=100, room=room))

    def reserve(self) -> None:
        s = self.s
        if s.cluster.reservations:
            s.feed(ev.ReservationChanged(now=s.now, verb="delete", name=next(iter(s.cluster.reservations)), uid=0, changes={}))
        else:
            nodes = self.pick.sample(sorted(s.configs), 2)
            changes = {"start_at": s.now + self.pick.choice([0, 100]), "duration_s": 600, "nodes": nodes, "users": ["anna"]}
            s.feed(ev.ReservationChanged(now=s.now, verb="create", name="r", uid=0, changes=changes))

    def remove(self) -> None:
        if len(self.s.configs) > 6:
            self.s.remove_node(self.pick.choice(sorted(self.s.configs)))

    def wait(self) -> None:
        self.s.wait(self.pick.choice([1, 60, 700]))

    def restart(self) -> None:
        licenses = self.s.cluster.licenses
        self.s.restart(epoch=self.s.cluster.epoch + 1)
        self.s.cluster.licenses = licenses
        for name in sorted(self.s.configs):
            self.s.connect(name)


MOVES = [
    *["submit"] * 12, *["end"] * 8, "lose", "connect", "connect", "drain", "change_node", "change_partition", "prove", "prove",
    "find_python", "report_gpus", "refuse_room", "reserve", "remove", "wait",
]  # fmt: skip


def check_verdicts(s: Scenario) -> None:
    """What is kept of each node is what `judge` says of it now."""
    for group in s.cluster.pending.groups.values():
        s.cluster.candidates.refresh(s.cluster)
        allowed = s.cluster.open_partitions(group.request)
        fit = s.cluster.candidates.fit(s.cluster, group.request, allowed)
        for name, node in s.cluster.nodes.items():
            rejection = judge(group.request, node, s.cluster.directories)
            expected = FITS if rejection is None else int(rejection.step)
            if allowed.isdisjoint(node.config.partitions):
                expected = ELSEWHERE
            assert fit.steps[name] == expected, (group.request, name)
        assert fit.steps.keys() == s.cluster.nodes.keys()
        assert fit.fitting == set(fit.names(FITS))
        assert all(fit.counts[step] == len(fit.names(step)) for step in range(ELSEWHERE, FITS + 1))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_pass_that_keeps_what_it_found_plans_as_one_that_does_not(seed: int) -> None:
    world = World(seed)
    for _ in range(40):
        for _ in range(world.pick.randint(1, 4)):
            world.move()
        world.s.plan()
        if world.pick.random() < 0.2:
            check_verdicts(world.s)
    assert world.s.cluster.next_job_id > 10


def test_small_bounds_change_nothing(monkeypatch) -> None:
    """Verdicts that are forgotten for want of room, passes that end early, an order of nodes for each request."""
    monkeypatch.setattr(candidates, "VERDICTS_MAX", 30)
    monkeypatch.setattr(product, "STARTS_MAX", 3)
    monkeypatch.setattr(product, "OWN_ORDER", 1)
    from core import plain_schedule

    monkeypatch.setattr(plain_schedule, "STARTS_MAX", 3)
    world = World(7)
    for _ in range(60):
        world.move()
        world.s.plan()
    world.restart()
    world.s.plan()
    check_verdicts(world.s)


def test_sorted_keys_are_a_sorted_list() -> None:
    pick, keys, plain = random.Random(3), SortedKeys(), []
    for n in range(4 * BUCKET_MAX):
        key = (pick.randrange(50), pick.randrange(1000), n)
        keys.add(key)
        plain.append(key)
    plain.sort()
    assert list(keys) == plain
    more = [(pick.randrange(50), pick.randrange(1000), n) for n in range(4 * BUCKET_MAX, 5 * BUCKET_MAX)]
    keys.add_many(more)
    plain = sorted([*plain, *more])
    assert list(keys) == plain
    while plain:
        gone = plain.pop(pick.choice([0, 0, pick.randrange(len(plain)), -1]) if len(plain) > 1 else 0)
        following = keys.after(gone)
        keys.remove(gone)
        later = [key for key in plain[:1] + plain[-1:] if key > gone]
        assert (following is None) == (not later)
        assert len(keys) == len(plain)
        if plain:
            assert keys.first() == plain[0]
            if len(plain) % 500 == 0:
                assert list(keys) == plain
                assert all(keys.after(one) == two for one, two in zip(plain, plain[1:], strict=False))
