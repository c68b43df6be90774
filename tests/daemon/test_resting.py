"""Hosts without launches are listed less often where there are many; those with one are not."""

import asyncio
from random import Random

import pytest

from sshq.controller.resting import Resting, wait_for_turn
from tests.sim.clock import VirtualLoop


def count_listings(hosts: int, busy: frozenset[str], seconds: int, interval_s: int = 45) -> dict[str, int]:
    def run() -> dict[str, int]:
        now = [0.0]

        def is_busy(name: str) -> bool:
            return name in busy

        resting = Resting(interval_s=interval_s, hosts=lambda: hosts, is_busy=is_busy, now=lambda: now[0])
        counts = {f"n{i}": 0 for i in range(hosts)}
        for step in range(0, seconds, interval_s):
            now[0] = float(step)
            for name in counts:
                counts[name] += resting.worth_listing(name)
        return counts

    return run()


def test_a_lab_of_usual_size_is_listed_each_time() -> None:
    assert set(count_listings(90, frozenset(), 450).values()) == {10}


def test_a_thousand_idle_hosts_share_two_listings_a_second_and_busy_ones_do_not_wait() -> None:
    counts = count_listings(1000, frozenset({"n7"}), 4500)
    assert counts["n7"] == 100
    idle = [count for name, count in counts.items() if name != "n7"]
    assert 8 <= min(idle) and sum(idle) / 4500 <= 2.05  # at least every 560 s, and 2 a second over all


def test_a_host_is_listed_at_once_when_it_gets_a_launch() -> None:
    def run() -> list[bool]:
        busy: set[str] = set()
        now = [0.0]

        def is_busy(name: str) -> bool:
            return name in busy

        resting = Resting(interval_s=45, hosts=lambda: 1000, is_busy=is_busy, now=lambda: now[0])
        found = [resting.worth_listing("n1")]
        now[0] = 45.0
        found.append(resting.worth_listing("n1"))
        busy.add("n1")
        found.append(resting.worth_listing("n1"))
        busy.clear()
        now[0] = 90.0
        found.append(resting.worth_listing("n1"))
        return found

    assert run() == [True, False, True, False]


def test_a_host_that_has_just_joined_waits_for_its_turn() -> None:
    now = [0.0]
    resting = Resting(interval_s=45, hosts=lambda: 1000, is_busy=lambda _: False, now=lambda: now[0], spread=lambda: 0.0)
    resting.note_listed("n1")
    found = []
    for now[0] in (45.0, 450.0, 501.0):
        found.append(resting.worth_listing("n1"))
    assert found == [False, False, True]


def test_hosts_that_join_together_are_not_listed_together() -> None:
    now = [0.0]
    resting = Resting(
        interval_s=45, hosts=lambda: 300, is_busy=lambda _: False, now=lambda: now[0], spread=Random(1).random
    )  # fmt: skip
    names = [f"n{i}" for i in range(300)]
    for name in names:
        resting.note_listed(name)
    listed = []
    for minute in range(1, 20):
        now[0] = minute * 45.0
        listed.append(sum(resting.worth_listing(name) for name in names))
    assert max(listed) <= 130 and max(listed[:4]) <= 130  # all 300 at the fourth look, and at each fourth after it, without
    assert sum(listed) >= 300 * 4


def test_a_host_looks_whether_its_turn_has_come_each_interval_and_many_at_the_same_moments() -> None:
    looks: list[float] = []

    async def wait_with_many() -> list[bool]:
        loop = asyncio.get_running_loop()
        forever: asyncio.Task[None] = asyncio.ensure_future(asyncio.sleep(1e6))

        def wait(turns: int) -> "asyncio.Future[bool]":
            seen = [0]

            def is_due() -> bool:
                looks.append(loop.time())
                seen[0] += 1
                return seen[0] == turns

            return asyncio.ensure_future(wait_for_turn(forever, 45, is_due))

        found = await asyncio.gather(*(wait(3) for _ in range(100)))
        forever.cancel()
        return found

    loop = VirtualLoop(Random(1))
    try:
        assert loop.run_until_complete(wait_with_many()) == [True] * 100
    finally:
        loop.close()
    assert len(looks) == 300
    assert all(40.5 <= at <= 3 * 49.75 and at * 4 == int(at * 4) for at in looks)


def test_the_wait_for_a_turn_ends_with_the_channel_and_with_a_fault_in_the_question() -> None:
    async def wait_twice() -> bool:
        reading: asyncio.Task[None] = asyncio.ensure_future(asyncio.sleep(100))
        ended = await wait_for_turn(reading, 45, lambda: False)
        going: asyncio.Task[None] = asyncio.ensure_future(asyncio.sleep(100))
        with pytest.raises(KeyError):
            await wait_for_turn(going, 45, lambda: bool({}["nothing"]))
        going.cancel()
        return ended

    loop = VirtualLoop(Random(1))
    try:
        assert loop.run_until_complete(wait_twice()) is False
    finally:
        loop.close()
