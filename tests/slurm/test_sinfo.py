"""sinfo: as recorded, byte for byte, over the views of the recording's nodes."""

import shlex

import pytest

from sshq.errors import OptionError
from sshq.slurm.fields_sinfo import NODE_FIELDS
from sshq.slurm.sinfo import read_sinfo_options, render_sinfo

from .recordings import NODES, PARTITIONS, at, load, make_node, make_partition, print_lines

RECORDED = load("sinfo")
NOW = at("2026-11-22T17:10:00")
PLACES = {"<N1>": "node1", "<N3>": "node3", "<P2>": "short"}
HOSTNAME_COLUMN = 29  # %n was localhost four times in the recording; our nodes have names of their own


def ask(argv, nodes=NODES, partitions=PARTITIONS, environ=None):
    output = render_sinfo(nodes, partitions, read_sinfo_options(argv, environ or {}), NOW)
    return (*print_lines(output), output.exit_code)


@pytest.mark.parametrize("name", list(RECORDED))
def test_prints_what_slurm_prints(name):
    entry = RECORDED[name]
    text = entry["cmd"]
    for mark, value in PLACES.items():
        text = text.replace(mark, value)
    expected = entry["stdout"]
    try:
        out, err, exit_code = ask(shlex.split(text)[1:])
    except OptionError as error:
        assert error.render("sinfo").startswith(entry["stderr"])
        assert error.exit_code == entry["exit"]
        return
    if name == "sinfo-fmt":
        out, expected = (
            [[cell for at, cell in enumerate(line.split("|")) if at != HOSTNAME_COLUMN] for line in lines.splitlines()]
            for lines in (out, expected)
        )
    assert out == expected
    assert err == entry["stderr"]
    assert exit_code == entry["exit"]


@pytest.mark.parametrize(
    ("changes", "compact", "long"),
    [
        ({}, "idle", "idle"),
        ({"state": "ALLOCATED"}, "alloc", "allocated"),
        ({"state": "MIXED", "drain": True}, "drng", "draining"),
        ({"drain": True}, "drain", "drained"),
        ({"state": "DOWN"}, "down", "down"),
        ({"state": "DOWN", "drain": True}, "drain", "drained"),
        ({"unreachable": True}, "idle*", "idle*"),
        ({"state": "MIXED", "unreachable": True}, "mix*", "mixed*"),
        ({"state": "UNKNOWN", "unreachable": True}, "unk*", "unknown*"),
    ],
)
def test_states_are_named_as_in_slurm(changes, compact, long):
    node = make_node("node3", planned=False, **changes)
    parts = [make_partition("debug", ["node3"])]
    assert ask(["-h", "-o", "%t %T"], [node], parts)[0] == f"{compact} {long}\n"


def test_troubled_nodes_come_first_and_idle_ones_last():
    states = [("n1", {}), ("n2", {"state": "ALLOCATED"}), ("n3", {"drain": True}), ("n4", {"state": "MIXED"}),
              ("n5", {"unreachable": True}), ("n6", {"state": "DOWN"})]  # fmt: skip
    nodes = [make_node(name, planned=False, **changes) for name, changes in states]
    parts = [make_partition("debug", [name for name, _ in states])]
    assert [line.split()[4] for line in ask(["-h"], nodes, parts)[0].splitlines()] == [
        "idle*", "drain", "mix", "alloc", "idle", "down",
    ]  # fmt: skip


def test_reasons_are_an_admins_or_what_sshq_noticed():
    nodes = [
        make_node("node3", drain=True, reason="bad disk", reason_user="root", reason_at=at("2026-11-22T17:13:41")),
        make_node("node4", unreachable=True, note="unreachable since 14:02", since_at=at("2026-11-22T14:02:00")),
    ]
    parts = [make_partition("debug", ["node3", "node4"]), make_partition("other", ["node3"])]
    assert ask(["-R"], nodes, parts)[0] == (
        "REASON               USER      TIMESTAMP           NODELIST\n"
        "bad disk             root      2026-11-22T17:13:41 node3\n"
        "unreachable since 14 Unknown   2026-11-22T14:02:00 node4\n"
    )


def test_sizes_that_differ_share_a_line_unless_exact():
    nodes = [make_node("n1", cpus=8, planned=False), make_node("n2", cpus=16, planned=False)]
    parts = [make_partition("debug", ["n1", "n2"])]
    assert ask(["-h", "-o", "%P %c %N"], nodes, parts)[0] == "debug* 8+ n[1-2]\n"
    assert ask(["-h", "-e", "-o", "%P %c %N"], nodes, parts)[0] == "debug* 8 n1\ndebug* 16 n2\n"


def test_without_a_partition_column_each_node_counts_once():
    assert ask(["-h", "-o", "%D %N"])[0] == "4 node[1-4]\n"


def test_a_drained_nodes_cpus_are_other():
    nodes = [make_node("n1", drain=True, planned=False), make_node("n2", planned=False, state="MIXED", cpus_alloc=3)]
    parts = [make_partition("debug", ["n1", "n2"])]
    assert ask(["-h", "-o", "%C %F"], nodes, parts)[0] == "3/5/8/16 1/0/1/2\n"


def test_long_names_widen_their_columns():
    nodes = [make_node("a-node-with-a-name", planned=False)]
    parts = [make_partition("a-long-partition", ["a-node-with-a-name"])]
    assert ask([], nodes, parts)[0].splitlines()[1].startswith("a-long-partition    up   infinite      1   idle ")
    assert ask(["-N", "-h"], nodes, parts)[0] == "a-node-with-a-name      1 a-long-partition idle  \n"


def test_hidden_partitions_show_on_request_only():
    parts = [make_partition("debug", ["node3"], hidden=True)]
    assert ask(["-h"], NODES, parts)[0] == ""
    assert ask(["-h", "-a"], NODES, parts)[0] != ""


def test_every_field_shows_every_group():
    names = ",".join(field.names[0] for field in NODE_FIELDS)
    assert ask(["-O", names])[1] == ""
    letters = [field.letter for field in NODE_FIELDS if field.letter]
    assert len(set(letters)) == len(letters)
