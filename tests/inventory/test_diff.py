"""What the log says when an inventory is edited, and which hosts connect anew."""

from sshq.inventory.diff import diff_inventories

from .files import load_text

BASE = """
all:
  children:
    cpu: {hosts: {a: {sshq_slots: 2}, b: {sshq_slots: 2}}}
    gpu: {hosts: {c: {sshq_gpus: 1}}, vars: {sshq_max_time: 60}}
"""


def lines(old: str, new: str) -> list[str]:
    return diff_inventories(load_text(old), load_text(new)).lines()


def test_nothing_changed() -> None:
    diff = diff_inventories(load_text(BASE), load_text("# a comment\n" + BASE))
    assert not diff and diff.lines() == []


def test_hosts_come_and_go() -> None:
    diff = diff_inventories(load_text(BASE), load_text(BASE.replace("b: {", "d: {")))
    assert diff and (diff.added, diff.removed, diff.changed) == (("d",), ("b",), ())
    assert diff.lines() == [
        "host d added",
        "host b removed",
        "partition lab changed: +d, -b",
        "partition cpu changed: +d, -b",
    ]


def test_a_host_changes_in_place() -> None:
    new = BASE.replace("a: {sshq_slots: 2}", "a: {sshq_slots: 4, sshq_features: [x, y]}")
    diff = diff_inventories(load_text(BASE), load_text(new))
    (change,) = diff.changed
    assert (change.name, change.keys, change.needs_reconnect) == ("a", ("slots", "features"), False)
    assert diff.lines() == ["host a changed: slots 2 -> 4, features - -> x,y"]


def test_a_new_way_to_log_in_needs_a_new_connection() -> None:
    for variable in ("ansible_host: x", "ansible_port: 7", "sshq_user: u", "ansible_connection: local", "sshq_spool: /s",
                     "ansible_ssh_common_args: -J gate", "ansible_private_key_file: /k", "sshq_channels_max: 1"):  # fmt: skip
        diff = diff_inventories(load_text(BASE), load_text(BASE.replace("a: {", "a: {" + variable + ", ")))
        assert [change.needs_reconnect for change in diff.changed] == [True], variable
    assert lines(BASE, BASE.replace("a: {", "a: {ansible_port: 7, ")) == ["host a changed: port - -> 7, connects anew"]


def test_partitions_come_go_and_change() -> None:
    new = BASE.replace("sshq_max_time: 60", "sshq_max_time: 60, sshq_state: down, sshq_default: true").replace("cpu:", "cpus:")
    assert lines(BASE, new) == [
        "host a changed: groups cpu -> cpus",
        "host b changed: groups cpu -> cpus",
        "partition cpu removed",
        "partition lab changed: default true -> false",
        "partition cpus added: a, b",
        "partition gpu changed: default false -> true, state UP -> DOWN",
    ]


def test_values_of_environment_variables_stay_out_of_the_log() -> None:
    new = BASE.replace("a: {", "a: {sshq_environment: {TOKEN: geheim}, ")
    assert lines(BASE, new) == ["host a changed: environment - -> TOKEN"]
