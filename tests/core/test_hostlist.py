"""Host lists: the transcripts' examples, then ClusterShell and Ansible as second opinions."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sshq.core.hostlist import HostlistError, expand_ansible_range, expand_hostlist, fold_hostlist


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n[1-3,07-09],x", "n1 n2 n3 n07 n08 n09 x"),  # scontrol show hostnames, recorded
        ("n1", "n1"),
        ("", ""),
        ("a,,b, c", "a b c"),
        ("n[9-11]", "n9 n10 n11"),
        ("n[09-11]", "n09 n10 n11"),
        ("n[098-101]", "n098 n099 n100 n101"),
        ("n[5]", "n5"),
        ("n[3,1-2]", "n3 n1 n2"),
        ("r[1-2]n[1-2].lab", "r1n1.lab r1n2.lab r2n1.lab r2n2.lab"),
        ("n1,n1", "n1 n1"),
        ("[1-2]", "1 2"),
        ("gpu-a[1-2]-ib", "gpu-a1-ib gpu-a2-ib"),
    ],
)
def test_a_list_expands_in_its_order(text: str, names: str) -> None:
    assert expand_hostlist(text) == names.split()


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("n1 n2 n3 n10 x", "n[1-3,10],x"),  # scontrol show hostlist, recorded
        ("n3 n1 n2", "n[1-3]"),  # scontrol show hostlistsorted, recorded
        ("node1 node2 node4", "node[1-2,4]"),  # sinfo, recorded
        ("node4", "node4"),
        ("", ""),
        ("n08 n09 n10 n11", "n[08-11]"),
        ("n9 n10 n09", "n[9,09-10]"),
        ("n99 n100 n101", "n[99-101]"),
        ("n01 n1 n2 n02", "n[1-2,01-02]"),
        ("n n1", "n,n1"),
        ("b1 a1 b2", "a1,b[1-2]"),
        ("n2 n2 n2", "n2"),
        ("r1n1 r1n2 r2n1", "r1n[1-2],r2n1"),
        ("gpu1-ib gpu2-ib", "gpu1-ib,gpu2-ib"),
    ],
)
def test_names_fold_as_slurm_prints_nodes(names: str, text: str) -> None:
    assert fold_hostlist(names.split()) == text


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("n3 n1 n2", "n[3,1-2]"),
        ("n1 n1", "n[1,1]"),
        ("n1 x n2", "n1,x,n2"),
        ("x x", "x,x"),
        ("n1 n2 n3 n10 x", "n[1-3,10],x"),
    ],
)
def test_an_unsorted_fold_keeps_order_and_repetitions(names: str, text: str) -> None:
    assert fold_hostlist(names.split(), sort=False) == text
    assert expand_hostlist(text) == names.split()


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("n[1-3", 2, "no closing bracket"),
        ("n1-3]", 5, "no opening bracket"),
        ("n[[1]]", 3, "a bracket inside a bracket"),
        ("a,n[]", 4, "an empty bracket"),
        ("n[1-]", 3, "not a number or a range"),
        ("n[1,x]", 5, "not a number or a range"),
        ("n[1-2-3]", 3, "not a number or a range"),
        ("n[3-1]", 3, "runs backwards"),
        ("n[1,,2]", 5, "not a number or a range"),
        ("n[0-99999999]", 3, "more than 65536 names"),
        ("n[1-60000],m[1-60000]", 14, "more than 65536 names"),
        ("n[1-600]m[1-600]", 11, "more than 65536 names"),
    ],
)
def test_a_bad_list_is_refused_with_its_place(text: str, position: int, reason: str) -> None:
    with pytest.raises(HostlistError, match=reason) as caught:
        expand_hostlist(text)
    assert caught.value.position == position


def test_the_largest_range_slurm_takes_is_taken_and_one_more_is_not() -> None:
    assert len(expand_hostlist("n[1-65536]")) == 65536
    with pytest.raises(HostlistError):
        expand_hostlist("n[0-65536]")


_names = st.builds(
    "{}{}".format,
    st.sampled_from(["n", "n1-", "gpu", "a0b"]),
    st.one_of(
        st.integers(0, 30).map(str),
        st.integers(0, 120).map("{:03}".format),
        st.sampled_from(["", "-ib", "x", "00"]),
    ),
)


@settings(max_examples=50)
@given(st.lists(_names))
def test_a_fold_expands_to_the_names_it_was_made_of(names: list[str]) -> None:
    assert expand_hostlist(fold_hostlist(names, sort=False)) == names
    once = expand_hostlist(fold_hostlist(names))
    assert len(once) == len(set(once))
    assert set(once) == set(names)


@settings(max_examples=50)
@given(st.sets(_names), st.randoms())
def test_a_sorted_fold_does_not_depend_on_the_order_of_the_names(names: set[str], random: Any) -> None:
    shuffled = sorted(names)
    random.shuffle(shuffled)
    assert fold_hostlist(shuffled) == fold_hostlist(names)


@settings(max_examples=50)
@given(st.lists(_names))
def test_clustershell_reads_a_fold_as_the_same_nodes(names: list[str]) -> None:
    node_set = pytest.importorskip("ClusterShell.NodeSet").NodeSet
    assert set(node_set(fold_hostlist(names))) == set(names)


_numbers = st.integers(0, 120)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(_numbers, _numbers, st.integers(1, 3)), min_size=1, max_size=3),
    st.sampled_from(["", "-ib", ".lab"]),
)
def test_clustershell_expands_brackets_to_the_same_nodes(
    parts: list[tuple[int, int, int]], suffix: str
) -> None:
    node_set = pytest.importorskip("ClusterShell.NodeSet").NodeSet
    texts = []
    for a, b, width in parts:
        low, high = sorted((a, b))
        if len(str(low)) < width:  # padded: ClusterShell wants both ends of one width
            width = max(width, len(str(high)))
            texts.append(f"{low:0{width}}-{high:0{width}}")
        else:
            texts.append(f"{low}-{high}")
    text = f"n[{','.join(texts)}]{suffix}"
    assert set(expand_hostlist(text)) == set(node_set(text))


_ANSIBLE = [
    "ws[01:12]", "ws[1:3]", "db-[a:f]", "n[1:9:2]", "n[:3]", "r[1:2]n[a:b].lab", "[1:3]", "plain", "n[08:12]", "n[001:010:3]", "x[a:C]", "n[0:3]", "n[10:10]",
]  # fmt: skip
_ANSIBLE_BAD = [
    "n[3:1]",
    "n[1:]",
    "n[1]",
    "n[01:100]",
    "n[a:3]",
    "n[f:a]",
    "n[aa:bb]",
    "n[1:3:0]",
    "n[1:3:x]",
    "n[1:2:3:4]",
    "n[1:3",
]


@pytest.mark.parametrize("text", _ANSIBLE)
def test_ansible_itself_expands_a_range_to_the_same_hosts(text: str) -> None:
    inventory = pytest.importorskip("ansible.plugins.inventory")
    theirs = list(inventory.expand_hostname_range(text)) if inventory.detect_range(text) else [text]
    assert expand_ansible_range(text) == theirs


@pytest.mark.parametrize("text", [*_ANSIBLE_BAD, "n1:3]", "n[1:99999999]", "a[1:999]b[1:999]"])
def test_a_bad_range_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(HostlistError) as caught:
        expand_ansible_range(text)
    assert 1 <= caught.value.position <= len(text)
