"""Fixtures for every test: hosts to run on, an isolated sshq, and what to do where a machine lacks something.

Locally a missing tool skips a test, with what to install.  In CI (`SSHQ_REQUIRE_TIERS` is set, by tests/run.sh) nothing
may be skipped: a skip is a failure, except a reason that begins with "optional:".
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import bed as beds
import turns

for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):  # whoever started us in the background had them ignored
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each command that a test starts compiles all of sshq anew
REQUIRED_TIERS = set(filter(None, os.environ.get("SSHQ_REQUIRE_TIERS", "").replace(",", " ").split()))
KEEP = os.environ.get("SSHQ_KEEP_LOGS", "")
PHASES = pytest.StashKey[dict[str, pytest.CollectReport]]()


# Explaining a failure takes minutes of further runs, more than a test may take.
hypothesis.settings.register_profile(
    "sshq", phases=[phase for phase in hypothesis.Phase if phase is not hypothesis.Phase.explain],
    suppress_health_check=[hypothesis.HealthCheck.too_slow],  # which measures the machine, not the strategy
    deadline=None,  # 200 ms by default: that too measures what else the machine does
)  # fmt: skip
hypothesis.settings.load_profile("sshq")
HOSTED = {"netns_bed", "bed", "hosts", "loopback", "instance", "instances", "engine"}  # whoever asks for these starts servers and controllers

OTHER_SHELLS = {"bash", "busybox", "ksh", "zsh"}  # the quick tier knows nodes with dash only
NO_PARAMS = SimpleNamespace(params={})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests last, so that a break shows soon, and those that measure the machine after them; markers by what tests use."""
    for item in items:
        used = set(getattr(item, "fixturenames", ()))
        if {"netns_bed", "hosts"} & used:
            item.add_marker(pytest.mark.netns)
        if HOSTED & used:
            item.add_marker(pytest.mark.hosted)
        if OTHER_SHELLS & {value for value in getattr(item, "callspec", NO_PARAMS).params.values() if isinstance(value, str)}:
            item.add_marker(pytest.mark.shells)
    items.sort(key=lambda item: [item.get_closest_marker(mark) is not None for mark in ("alone", "slow")])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    """Side by side with the tests of the other workers, unless marked `alone`; waiting for one's turn counts for no time-out."""
    with turns.turn(alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Any:
    return turns.make_scheduler(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Keep each phase's report for the fixtures; where tiers are required, a skip is a failure."""
    report = yield
    if report.skipped and REQUIRED_TIERS and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if "optional:" not in reason:
            report.outcome = "failed"
            report.longrepr = f"skipped where nothing may be skipped (SSHQ_REQUIRE_TIERS): {reason}"
    item.stash.setdefault(PHASES, {})[report.when] = report
    return report


runs: set[str] = set()  # with workers, where this is not one of them: the run's name


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    runs.add(node.workerinput["testrunuid"])


def pytest_unconfigure() -> None:
    beds.close_session()
    for run in runs:
        turns.forget_run(run)


def has_failed(request: pytest.FixtureRequest) -> bool:
    return any(report.failed for report in request.node.stash.get(PHASES, {}).values())


@pytest.fixture(scope="session")
def need() -> Callable[..., str]:
    """`need("ksh")`: its path, or the test is skipped saying what to install (in CI: fails)."""

    def find(tool: str, package: str = "") -> str:
        path = beds.which(tool)
        if not path:
            pytest.skip(f"apt-get install {package or tool}")
        return path

    return find


@pytest.fixture(scope="session")
def netns_bed() -> Iterator[beds.NetnsBed]:
    """The session's bed of hosts in network namespaces (needs root)."""
    reason = beds.why_no_netns()
    if reason:
        pytest.skip(reason)
    with beds.NetnsBed() as made:
        yield made


@pytest.fixture(scope="session")
def bed(netns_bed: beds.NetnsBed) -> beds.NetnsBed:
    """The usual name of `netns_bed`."""
    return netns_bed


class HostMaker:
    """Makes hosts for one test: `hosts(4)`, `hosts(1, tmp_size="1m")`, `hosts.odd("fish")`."""

    def __init__(self, bed: beds.NetnsBed) -> None:
        self.bed = bed
        self.before = list(bed.hosts)

    def __call__(self, n: int = 1, **kwargs: object) -> list[beds.NetnsHost]:
        return self.bed.add(n, **kwargs)

    def odd(self, kind: str) -> beds.NetnsHost:
        tool = beds.lacking_tool(kind)
        if tool:
            pytest.skip(f"apt-get install {tool}")
        return beds.ODD[kind].build(self.bed)

    def close(self) -> None:
        self.bed.remove([host for host in self.bed.hosts if host not in self.before])


@pytest.fixture
def hosts(netns_bed: beds.NetnsBed) -> Iterator[HostMaker]:
    """Hosts that live as long as the test."""
    maker = HostMaker(netns_bed)
    yield maker
    maker.close()


@pytest.fixture(scope="session")
def loopback() -> Iterator[beds.LoopbackBed]:
    """Four plain sshds on loopback addresses; any user may run them."""
    reason = beds.why_no_sshd()
    if reason:
        pytest.skip(reason)
    with beds.LoopbackBed(4) as made:
        yield made


@pytest.fixture
def instances(request: pytest.FixtureRequest) -> Iterator[Callable[[], beds.Instance]]:
    """Makes isolated sshq instances; each is torn down, and a failed test shows their logs."""
    made: list[beds.Instance] = []

    def make() -> beds.Instance:
        made.append(beds.Instance())
        return made[-1]

    yield make
    for number, one in enumerate(made):
        if has_failed(request):
            request.node.add_report_section("teardown", f"sshq instance {number}", one.logs() or "no log was written")
            if KEEP:
                one.keep(KEEP, f"{request.node.name}-{number}".replace("/", "_"))
        one.close()


@pytest.fixture
def instance(instances: Callable[[], beds.Instance]) -> beds.Instance:
    """One isolated sshq, not started yet."""
    return instances()
