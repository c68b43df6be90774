"""Worlds made of a seed: nothing lost, nothing doubled, nothing stuck.  And the proof that the simulation would see it."""

import datetime as dt
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bed import REPO
from sim.campaign import Sum, run_seed, run_seeds
from sim.node import Guards, Run
from sim.plan import make_plan
from sim.shrink import explain, shrink
from sim.world import Outcome, World

pytestmark = pytest.mark.timeout(400)  # of a machine that has much else to do; alone it takes a few seconds

FIXED = range(1, 201)
ROTATING = 100
LONG = (1, 2)


def check(total: Sum) -> None:
    """Fail with the story of the first seeds that failed."""
    print("\n".join(total.lines()))
    stories = []
    for report in total.failed[:3]:
        if report.problems[0][0] in ("crash", "no fault"):
            stories.append(f"seed {report.seed} ({report.scale}): {report.problems[0][1]}")
        else:
            stories.append(explain(make_plan(report.seed, report.scale), budget_s=20 if report.scale == "short" else 0))
    assert not stories, "\n\n".join([*stories, *total.lines()])


def first_rotating() -> int:
    """Other seeds each day; SSHQ_SIM_FIRST brings back those of another one."""
    given = os.environ.get("SSHQ_SIM_FIRST", "")
    return int(given) if given else dt.datetime.now(dt.UTC).date().toordinal() * 1000


def test_ten_worlds_go_well():
    total = Sum()
    for seed in range(1, 11):
        total.add(run_seed(seed, "short"))
    check(total)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_hundred_worlds_go_well():
    first = first_rotating()
    print(f"rotating seeds: SSHQ_SIM_FIRST={first}")
    total = Sum()
    for report in run_seeds([*FIXED, *range(first, first + ROTATING)], "short"):
        total.add(report)
    check(total)
    assert total.seeds == len(FIXED) + ROTATING
    assert total.injected["kill_head"] >= total.seeds


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_days_of_a_lab_go_well():
    total = Sum()
    for report in run_seeds(LONG, "long"):
        total.add(report)
    check(total)
    assert total.jobs >= 2000 * len(LONG)
    assert total.virtual_s >= 86400 * len(LONG)


@pytest.mark.slow
def test_forty_worlds_with_leases_go_well():
    """Hosts cut off for longer than leases, while controllers come and go and clocks are set: no two attempts at once."""
    total = Sum()
    for report in run_seeds(range(1, 41), "leases"):
        total.add(report)
    check(total)
    assert total.injected["long_cut"] >= 40
    assert total.starts > total.jobs


@pytest.mark.slow
def test_a_seed_is_the_same_world_in_every_process():
    def digest(hash_seed: str) -> str:
        code = "from sim.campaign import run_seed; print(run_seed(7, 'short').digest)"
        environ = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join([REPO, f"{REPO}/tests"])}
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert digest("1") == digest("2") != ""


# ---- would it be seen? -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("without", "scale", "kinds"),
    [
        ("waits", "short", {"false", "running"}),
        ("arbiter", "gates", {"false", "two", "running"}),
        ("lease", "leases", {"two"}),
    ],
)
def test_a_node_without_a_guard_is_found(without, scale, kinds):
    assert any(kinds & {kind for kind, _ in run_seed(seed, scale, (without,)).problems} for seed in range(1, 11))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nodes_that_obey_late_calls_are_found():
    """An old runner that lives on beside the new one, on a node that does not look at the floor."""
    found: set[str] = set()
    for report in run_seeds(range(1, 301), "short", without=("takeover", "floor")):
        found |= {kind for kind, _ in report.problems}
        if found & {"false", "two", "double", "running"}:
            return
    pytest.fail(f"300 worlds without takeover and floor, and only {found} was found")


def test_a_world_without_faults_is_no_proof():
    assert ("no fault", "nothing went wrong in this world, so it proves nothing") in run_seed(1, "calm").problems


def judged(tamper: Callable[[World, sqlite3.Connection], None], seed: int = 3) -> Outcome:
    """A world that goes well, but for what `tamper` does to store or ledger just before it is judged."""

    def change(world: World, path: Path) -> None:
        with sqlite3.connect(path) as connection:
            tamper(world, connection)
        connection.close()

    return World(make_plan(seed, "short"), before_judging=change).run()


def some_run(world: World) -> Run:
    return next(r for n in world.nodes.values() for r in n.ledger if r.ending == "exit")


def forget_job(world, connection):
    connection.execute("DELETE FROM job WHERE job_id = ?", (some_run(world).job_id,))


def leave_pending(world, connection):
    connection.execute("UPDATE job SET state = 'PENDING' WHERE job_id = ?", (some_run(world).job_id,))


def leave_launch_open(world, connection):
    connection.execute("UPDATE launch SET open = 1 WHERE id = ?", (some_run(world).launch,))


def call_it_completed(world, connection):
    for run in (r for n in world.nodes.values() for r in n.ledger):
        run.ending, run.code = "signal", 265
    connection.execute("UPDATE accounting SET record = json_set(record, '$.state', 'COMPLETED')")


def drop_accounting(world, connection):
    connection.execute("DELETE FROM accounting WHERE launch_id = ?", (some_run(world).launch,))


def account_twice(world, connection):
    connection.execute(
        "INSERT INTO accounting SELECT replace(launch_id, substr(launch_id, 1, 4), 'ffff'), job_id, node, record FROM accounting LIMIT 1"
    )


def start_twice(world, connection):
    run = some_run(world)
    world.nodes[run.node].ledger.append(Run(**{**vars(run), "started_at": (run.ended_at or 0) + 1, "ended_at": (run.ended_at or 0) + 2}))


def run_at_once(world, connection):
    run = some_run(world)
    run.ended_at = (run.ended_at or 0) + 5
    world.nodes[run.node].ledger.append(Run(**{**vars(run), "launch": "e" * 32, "attempt": 9, "started_at": run.started_at + 1}))


def run_on(world, connection):
    some_run(world).ended_at = None


@pytest.mark.parametrize(
    ("tamper", "kind"),
    [
        (forget_job, "lost"),
        (leave_pending, "lost"),
        (leave_launch_open, "lost"),
        (call_it_completed, "false"),
        (drop_accounting, "accounting"),
        (account_twice, "accounting"),
        (start_twice, "double"),
        (run_at_once, "two"),
        (run_on, "running"),
    ],
)
def test_the_oracle_sees_a_planted_violation(tamper, kind):
    assert kind in {found for found, _ in judged(tamper).problems}


def test_the_oracle_is_content_with_what_nobody_touched():
    assert judged(lambda world, connection: None).problems == []


def test_a_failure_shrinks_to_what_it_needs():
    guards = Guards(arbiter=False)
    plan = next(p for p in (make_plan(seed, "gates") for seed in range(1, 11)) if World(p, guards=guards).run().problems)
    dropped = shrink(plan, guards=guards, budget_s=80)
    outcome = World(plan, guards=guards, dropped=dropped).run()
    assert outcome.problems
    assert len(dropped) >= (len(plan.steps) + len(plan.jobs)) // 2
