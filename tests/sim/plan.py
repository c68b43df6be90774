"""What a seed means: machines, jobs, users' words and faults, each at its time.  Nothing here runs anything."""

from dataclasses import dataclass, field, replace
from random import Random

from sshq.controller.crash import POINTS

HEAD_POINTS = tuple(p for p in POINTS if not p.startswith(("restore.", "migration.")))


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large a world is."""

    nodes: tuple[int, int]
    jobs: tuple[int, int]
    span_s: tuple[float, float]  # while jobs come and faults happen
    faults: tuple[int, int]
    words: tuple[int, int]  # of users: cancels, holds, requeues, …
    job_s: float  # most jobs are shorter
    settle_s: float = 2 * 3600.0  # after the last fault


SHORT = Scale(nodes=(1, 3), jobs=(2, 8), span_s=(60, 600), faults=(3, 10), words=(0, 5), job_s=60.0)
LONG = Scale(nodes=(20, 20), jobs=(2000, 2000), span_s=(86400, 86400), faults=(250, 300), words=(150, 250), job_s=3600.0,
             settle_s=24 * 3600.0)  # a backlog may be left
# Jobs that are longer than their leases, and hosts that are away for long; nothing that stops a supervisor's own processes.
LEASES = Scale(nodes=(2, 3), jobs=(2, 5), span_s=(1200, 2400), faults=(5, 12), words=(0, 1), job_s=900.0)
LEASE_S = 300
CALM = Scale(nodes=(1, 1), jobs=(1, 1), span_s=(60, 60), faults=(0, 0), words=(0, 0), job_s=20.0)
# Supervisors that stop at the arbiter while the controller comes back: for the test that takes the arbiter away.
GATES = Scale(nodes=(1, 1), jobs=(4, 8), span_s=(60, 120), faults=(6, 12), words=(0, 0), job_s=60.0)
SCALES = {"short": SHORT, "long": LONG, "calm": CALM, "gates": GATES, "leases": LEASES}


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    number: int
    at: float
    duration_s: float
    code: int = 0
    term: str = "die"  # die, ignore, trap
    limit_s: int | None = None
    requeue: bool | str | None = None  # None: yes
    retries: int = 0
    private: bool = False
    array: int = 0
    after: int | None = None  # number of the submission it depends on
    large: bool = False  # its script is sent in parts
    cpus: int = 1
    held: bool = False
    nodes: int = 1
    lease_s: int | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One fault, or one word of a user."""

    number: int
    at: float
    kind: str
    a: float = 0.0  # what the numbers mean is the fault's own business
    b: float = 0.0
    c: float = 0.0
    when: str = ""  # not at a time, but when this happens on a node, the n-th time after `at`
    nth: int = 1
    node: str = ""  # where it happened

    def __str__(self) -> str:
        when = f" at {self.when}" + (f":{self.nth}" if self.nth > 1 else "") + (f" on {self.node}" if self.node else "") if self.when else ""
        return f"#{self.number} t={self.at:.1f} {self.kind}{when} a={self.a:.3f} b={self.b:.3f} c={self.c:.3f}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    seed: int
    scale: str
    nodes: int
    cpus: int
    span_s: float
    settle_s: float
    jobs: tuple[JobPlan, ...]
    steps: tuple[Step, ...]
    faults: int = field(default=0)


# What happens on nodes, and can set off a fault there: the windows are milliseconds wide, chance would rarely meet them.
EVENTS = (
    "call_launch", "call_launch", "claimed", "claimed", "supervisor_before_go", "supervisor_before_go", "supervisor_after_go",
    "job_named", "started", "ended", "recording", "recorded", "call_ack", "ack_floor_raised", "call_fence", "fence_won",
    "call_kill", "call_reserve", "floor_raised", "call_list", "hello", "call_part",
)  # fmt: skip

# kind -> how often, of all faults
FAULTS = {
    "kill_head": 10, "kill_head_at_point": 16, "stop_head": 3, "second_head": 2, "restore": 2, "head_clock": 2, "slow_disk": 2,
    "cut": 8, "cut_up": 5, "cut_down": 6, "reset": 8, "reset_in_call": 10, "slow_path": 4, "sshd_down": 3, "flap": 3,
    "login_refused": 1, "host_key": 1,
    "reboot": 6, "power_cut": 5, "freeze_node": 4, "kill_runner": 6, "kill_supervisor": 6, "kill_spawner": 4, "kill_job": 3,
    "kill_user": 3, "stop_process": 8, "stop_and_reset": 10, "stop_until_fenced": 6, "disk_full": 4, "wipe": 2, "node_clock": 2, "slow_node": 3,
    "remove_host": 3, "rename_host": 1, "swap_address": 1, "edit_host": 2,
}  # fmt: skip
LEASE_FAULTS = {
    "long_cut": 30, "kill_head": 8, "kill_head_at_point": 6, "stop_head": 4, "second_head": 2, "head_clock": 4, "cut": 6, "cut_up": 4,
    "cut_down": 4, "reset": 4, "reset_in_call": 4, "slow_path": 3, "sshd_down": 4, "flap": 2, "reboot": 4, "kill_runner": 3,
    "kill_supervisor": 8, "node_clock": 5, "slow_disk": 1, "login_refused": 2,
}  # fmt: skip
WORDS = {
    "cancel": 10, "cancel_kill": 2, "hold": 3, "release": 3, "requeue": 5, "requeue_hold": 1, "suspend": 2, "resume": 2,
    "drain": 2, "undrain": 2, "down": 2, "update": 2, "signal": 1,
}  # fmt: skip


def make_plan(seed: int, scale_name: str = "short") -> Plan:
    random = Random(f"{scale_name}/{seed}")
    scale = SCALES[scale_name]
    span = random.uniform(*scale.span_s)
    jobs = tuple(_make_job(random, number, span, scale) for number in range(1, random.randint(*scale.jobs) + 1))
    steps: list[Step] = []
    # A seed prefers a few kinds of faults: rare combinations then meet often.
    favourites = random.sample(sorted(FAULTS), 4)
    weights = {k: w * (6 if k in favourites else 1) for k, w in FAULTS.items()}
    if scale_name == "gates":
        weights = {"stop_until_fenced": 3, "stop_and_reset": 1}
    if scale_name == "long":
        weights = {**FAULTS, "restore": 0.3, "wipe": 1, "second_head": 1}
    if scale_name == "leases":
        weights = LEASE_FAULTS
        jobs = tuple(replace(job, lease_s=LEASE_S, private=False, array=0, limit_s=None, duration_s=job.duration_s + 60) for job in jobs)
    number = 0
    faults = random.randint(*scale.faults)
    for kinds, count in ((weights, faults), (WORDS, random.randint(*scale.words))):
        for _ in range(count):
            number += 1
            kind = random.choices(list(kinds), list(kinds.values()))[0]
            at = random.uniform(2, span)
            when = ""
            if random.random() < 0.3:  # near the beginning or end of some job
                job = random.choice(jobs)
                at = max(0.5, job.at + random.choice((0, job.duration_s)) + random.uniform(-0.5, 3))
            elif random.random() < (0.7 if kinds is weights else 0.3):
                when, at = random.choice(EVENTS), max(0.0, at - span / 3)
            if kind == "stop_until_fenced":
                when, at = random.choice(("claimed", "supervisor_before_go", "supervisor_before_go")), max(0.0, at - span / 3)
            steps.append(
                Step(
                    number=number, at=at, kind=kind, a=random.random(), b=random.random(), c=random.random(), when=when,
                    nth=random.choice((1, 1, 1, 2, 3)),
                )
            )  # fmt: skip
    if scale_name != "calm":  # a world without any fault would prove nothing
        steps.append(Step(number=number + 1, at=span * random.uniform(0.3, 0.9), kind="kill_head"))
    steps.sort(key=lambda s: (s.at, s.number))
    nodes = random.randint(*scale.nodes)
    if nodes > 1:  # by another source of chance, so that worlds known by their seeds stay what they were in all else
        chance = Random(f"{scale_name}/{seed}/nodes")
        jobs = tuple(replace(job, nodes=2) if chance.random() < 0.15 and not job.array else job for job in jobs)
    return Plan(
        seed=seed, scale=scale_name, nodes=nodes, cpus=4 if scale_name == "long" else random.choice((1, 2, 4)), span_s=span,
        settle_s=scale.settle_s, jobs=jobs, steps=tuple(steps), faults=faults,
    )  # fmt: skip


def _make_job(random: Random, number: int, span: float, scale: Scale) -> JobPlan:
    duration = random.choice((0.0, random.uniform(0.1, 5), random.uniform(1, scale.job_s), random.uniform(1, scale.job_s)))
    return JobPlan(
        number=number,
        at=random.uniform(0.1, span * 0.7),
        duration_s=duration,
        code=random.choice((0, 0, 0, 0, 1, 3)),
        term=random.choice(("die", "die", "die", "ignore", "trap")),
        limit_s=random.choice((None, None, None, max(1, int(duration * 0.7)), int(duration) + 60)),
        requeue=random.choice((None, None, None, False, "always")),
        retries=random.choice((0, 0, 0, 1, 2)),
        private=random.random() < 0.15,
        array=random.choice((0,) * 9 + (3,)),
        after=random.randint(1, number - 1) if number > 1 and random.random() < 0.1 else None,
        large=random.random() < 0.08,
        cpus=1,
        held=random.random() < 0.03,
    )
