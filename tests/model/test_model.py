"""The launch protocol holds in every interleaving of the model, and not one of its guards can be left out."""

import pytest

from model.explore import ALL, CAMPAIGN, EVERYTHING, Scenario, check, walk
from model.model import GUARDS, Faults

SMALL = (
    "nothing/2x2", "nothing/1x2/older", "kill9/2x1", "reboot/2x1", "power/2x1", "pkill/2x1", "second/2x1", "cancel/2x1",
    "requeue/2x1", "wipe/2x1", "full/2x1", "restore/1x2", "restore+cancel/1x1", "pkill+cancel/2x1", "reboot+pkill/2x1",
    "lease+kill9/1x1", "lease+cancel+kill9/1x1", "lease+reboot+kill9/1x1", "lease+restore/1x1",
)  # fmt: skip
LARGE = (
    "kill9/2x2", "reboot/2x2", "power/2x2", "pkill/2x2", "second/2x2", "cancel/2x2", "requeue/2x2", "wipe/2x2", "full/2x2",
    "restore/2x1", "kill9/1x1/older", "reboot/1x1/older", "pkill/1x1/older", "cancel/1x1/older", "second/1x1/older",
    "wipe/1x2/older", "kill9+pkill/2x1", "kill9+wipe/2x1", "reboot+wipe/2x1", "reboot+cancel/2x1", "wipe+cancel/2x1",
    "wipe+requeue/2x1", "lease+kill9/2x1", "lease+second/2x1", "lease+wipe/2x1", "lease+pkill/2x1",
)  # fmt: skip

# guard -> where leaving it out shows soonest, and as what
SHOWN = {
    "intent": ("nothing/2x2", "an open launch was refused"),
    "claim": ("nothing/2x2", "the job is final and runs"),
    "refused": ("full/2x2", "called never started, but it ran"),
    "boot": ("reboot/2x1", "started after it was settled"),
    "ident": ("nothing/2x1", "the job is final and runs"),
    "go": ("nothing/2x1", "called never started, but it ran"),
    "fence": ("nothing/2x1", "called never started, but it ran"),
    "cancel": ("cancel/2x1", "the job is final and runs"),
    "floor": ("nothing/2x2", "called never started, but it ran"),
    "floorlate": ("restore/1x2", "the job is final and runs"),
    "claimlate": ("wipe/2x1", "called never started, but it ran"),
    "gcorder": ("nothing/2x2", "called never started, but it ran"),
    "openset": ("nothing/1x2/older", "an open launch was refused"),
    "mono": ("restore/1x2", "called never started, but it ran"),
    "floorword": ("restore/1x2", "called never started, but it ran"),
    "reserve": ("restore/2x1", "two launches of one job run at once"),
    "epochread": ("second/2x1", "an open launch was refused"),
    "dbfence": ("second/2x1", "an open launch was refused"),
    "txguard": ("nothing/2x2", "two accounting rows"),
    "absence": ("nothing/2x1", "called never started, but it ran"),
    "requeue": ("pkill/2x1", "started again without proof"),
    "lostspool": ("wipe+requeue/2x1", "two launches of one job run at once"),
    "spoolword": ("wipe/2x1", "called never started, but it ran"),
    "bootword": ("power/2x1", "called never started, but it ran"),
    "forgot": ("restore/1x2", "called never started, but it ran"),
    "held": ("restore/2x1", "started although the job had ended"),
    "heldlive": ("restore+reboot/2x1", "started although the job had ended"),
    "noted": ("restore+cancel/1x1", "the job is final and runs"),
    "adopt": ("restore/2x1", "two launches of one job run at once"),
    "supersede": ("restore/2x1", "the job is final and runs"),
    "listed": ("restore+full/2x1", "the job is final and runs"),
    "newest": ("restore/2x1", "the job is final and runs"),
    "leasewait": ("lease+kill9/2x1", "started after it was settled"),
    "leaselate": ("lease+kill9/2x1", "started after it was settled"),
    "leasefrom": ("lease+kill9/2x1", "started after it was settled"),
    "spare": ("restore/1x2", "killed, and nobody had asked"),
}
LONG = ("heldlive", "listed")  # some 10 s each
# Two guards that stand in for each other where nothing else goes wrong: both must go for it to show.
COVERING = [("floorlate", "claimlate", "nothing/2x2", "called never started, but it ran")]


@pytest.mark.parametrize("text", [*SMALL, *(pytest.param(text, marks=pytest.mark.slow) for text in LARGE)])
def test_no_interleaving_breaks_a_promise(text: str) -> None:
    found = check(Scenario.parse(text))
    assert found.violation is None and found.complete, str(found)


@pytest.mark.parametrize("guard", [pytest.param(g, marks=pytest.mark.slow) if g in LONG else g for g in GUARDS])
def test_without_a_guard_a_promise_is_broken(guard: str) -> None:
    text, expected = SHOWN[guard]
    found = check(Scenario.parse(text), ALL - {guard})
    assert found.violation is not None, f"the model does not need {guard!r} ({GUARDS[guard]}): {found}"
    assert expected in found.violation, str(found)


@pytest.mark.parametrize(("one", "other", "text", "expected"), COVERING)
def test_guards_that_cover_each_other_fail_only_together(one: str, other: str, text: str, expected: str) -> None:
    scenario = Scenario.parse(text)
    assert check(scenario, ALL - {one}).violation is None
    assert check(scenario, ALL - {other}).violation is None
    assert expected in (check(scenario, ALL - {one, other}).violation or "")


@pytest.mark.parametrize("start", range(0, 2000, 500))
def test_random_walks_over_many_faults_break_no_promise(start: int) -> None:
    for seed in range(start, start + 500):
        found = walk(EVERYTHING, seed, 250)
        assert found.violation is None, f"seed {seed}: {found}"


def test_random_walks_do_find_what_is_broken() -> None:
    for guard in ("intent", "claim", "fence", "openset", "absence", "bootword"):
        assert any(walk(EVERYTHING, seed, 250, ALL - {guard}).violation for seed in range(400)), guard


def test_every_fault_is_part_of_an_exhaustive_scenario() -> None:
    covered = {name for text in (*SMALL, *LARGE) for name, n in Scenario.parse(text).faults._asdict().items() if n}
    assert covered == set(Faults._fields)


def test_every_guard_is_shown_to_be_needed() -> None:
    assert set(SHOWN) == set(GUARDS)


@pytest.mark.parametrize("text", [*SMALL, *LARGE, *CAMPAIGN, str(EVERYTHING)])
def test_scenarios_are_read_as_they_are_written(text: str) -> None:
    assert Scenario.parse(str(Scenario.parse(text))) == Scenario.parse(text)
