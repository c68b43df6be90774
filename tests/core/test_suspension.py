"""A suspend or resume that met a dead connection (found by tests/sim: a job that was RUNNING in the queue and stopped for ever)."""

import pytest
from scenario import ROOT, Scenario

from sshq.core.effects import KillLaunch

STOP, CONT, TERM = 19, 18, 15


def running(*verbs: str) -> Scenario:
    s = Scenario().nodes("n1")
    s.submit("a")
    s.plan()
    s.started("a")
    for verb in verbs:
        s.control(verb, "a", uid=ROOT, admin=True)
    return s


def told_at_reconnect(s: Scenario) -> list[int]:
    s.lose("n1")
    return told(s)


def told(s: Scenario) -> list[int]:
    before = len(s.effects)
    s.connect("n1", s.entry("a", alive=True))
    return [e.signal for e in s.effects[before:] if isinstance(e, KillLaunch)]


@pytest.mark.parametrize(
    ("verbs", "signals"),
    [
        ((), []),
        (("suspend",), [STOP]),
        (("suspend", "resume"), [CONT]),
        (("suspend", "resume", "suspend"), [STOP]),
        (("suspend", "cancel"), [TERM]),  # what is to end must not be stopped
    ],
)
def test_a_node_is_told_again_what_a_suspended_job_shall_do(verbs, signals) -> None:
    assert told_at_reconnect(running(*verbs)) == signals


def test_a_job_resumed_while_its_node_is_away_goes_on_once_it_is_back() -> None:
    s = running("suspend").lose("n1")
    assert s.control("resume", "a", uid=ROOT, admin=True) == ["done"]
    assert s.state("a") == "RUNNING"
    assert told(s) == [CONT]
