"""Hosts without launches are listed less often where there are many; those with one are not."""

from sshq.controller.resting import Resting


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
    resting = Resting(interval_s=45, hosts=lambda: 1000, is_busy=lambda _: False, now=lambda: now[0])
    resting.note_listed("n1")
    found = []
    for now[0] in (45.0, 450.0, 501.0):
        found.append(resting.worth_listing("n1"))
    assert found == [False, False, True]
