"""Who answers in the name of a node: decided before anything is changed there."""

import pytest
from scenario import Scenario

from sshq.core.effects import Audit
from sshq.core.events import NodeAccepted
from sshq.core.identity import find_stranger, find_twin
from sshq.errors import RefusedError


def busy(node: str = "n1") -> Scenario:
    s = Scenario().nodes("n[1-2]")
    s.submit("a", req_nodes=(node,), requeue="no")
    s.plan()
    return s.started("a").lose("n1").lose("n2")


SEEN = [
    # spool, boot, machine id of what answers for n1, whose launches were on (spool-n1, boot-n1, machine-n1): a stranger?
    ("spool-n1", "boot-n1", "machine-n1", None),
    ("spool-n1", "boot-2", "machine-n1", None),  # it was rebooted
    ("spool-9", "boot-n1", "machine-n1", None),  # its spool was lost
    ("spool-9", "boot-2", "machine-n1", None),  # both
    ("spool-n1", "boot-n1", "machine-9", None),  # it has a new machine id: the kernel is the one that ran them
    ("spool-9", "boot-2", "", None),  # it has none
    ("spool-n2", "boot-n2", "machine-n2", "the machine that is n2 answers"),
    ("spool-n2", "boot-n1", "machine-n1", "the machine that is n2 answers"),  # two spools on one machine
    ("spool-9", "boot-2", "machine-9", "another machine answers"),
    ("spool-n1", "boot-2", "machine-9", "another machine answers, with a copy of its disk"),
]


@pytest.mark.parametrize(("spool", "boot", "machine", "why"), SEEN)
def test_a_machine_is_told_from_another_by_spool_boot_and_machine_id(spool, boot, machine, why) -> None:
    assert find_stranger(busy().cluster, "n1", spool_id=spool, boot=boot, machine_id=machine) == why


@pytest.mark.parametrize(("spool", "boot", "machine", "_why"), SEEN)
def test_a_name_without_launches_may_mean_any_machine(spool, boot, machine, _why) -> None:
    assert find_stranger(busy("n2").cluster, "n1", spool_id=spool, boot=boot, machine_id=machine) is None


def test_launches_that_were_declared_dead_are_at_stake_too() -> None:
    s = busy().set_node("n1", "down")
    assert find_stranger(s.cluster, "n1", spool_id="spool-9", boot="b", machine_id="machine-9") == "another machine answers"


def test_an_accepted_stranger_is_the_node_and_what_was_open_is_given_up() -> None:
    s = busy().feed(NodeAccepted(now=0, name="n1", spool_id="spool-9", uid=0))
    assert [e.verb for e in s.last.effects if isinstance(e, Audit)] == ["node accept"]
    s.restart()
    assert find_stranger(s.cluster, "n1", spool_id="spool-9", boot="b", machine_id="machine-9") is None
    assert find_stranger(s.cluster, "n1", spool_id="spool-8", boot="b", machine_id="machine-8") is not None, "this one only"
    s.connect("n1", spool="spool-9", boot="b")
    assert (s.state("a"), s.outcomes("a")) == ("NODE_FAIL", ["SPOOL_LOST"])
    s.submit("b", req_nodes=("n1",))
    s.plan()
    assert find_stranger(s.cluster, "n1", spool_id="spool-8", boot="c", machine_id="machine-8") is not None, "once only"


def test_a_node_that_is_not_there_cannot_be_accepted() -> None:
    with pytest.raises(RefusedError, match="Invalid node name"):
        busy().feed(NodeAccepted(now=0, name="ghost", spool_id="s", uid=0))


def test_of_two_names_of_one_machine_the_one_with_launches_has_it() -> None:
    s = busy()
    assert find_twin(s.cluster, "n2", "spool-n1", displaced=False) == "n1"
    assert find_twin(s.cluster, "n1", "spool-n1", displaced=False) is None
