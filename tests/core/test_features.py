"""Constraints, and the reasons' words: what is read, what is refused, what is said."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sshq.core.features import parse_constraint
from sshq.core.reasons import Reason, explain_reason, format_reason, parse_reason


@pytest.mark.parametrize(
    ("text", "features", "fits"),
    [
        ("fast", "fast gpu", True),
        ("fast", "slow", False),
        ("fast", "", False),
        ("fast&gpu", "fast gpu", True),
        ("fast&gpu", "fast", False),
        ("fast|gpu", "gpu", True),
        ("fast|gpu", "slow", False),
        ("(a|b)&c", "b c", True),
        ("(a|b)&c", "a b", False),
        ("a|(b&c)", "a", True),
        ("a&b|c", "c", True),
        ("a&b|c", "a", False),
        ("((a))", "a", True),
        (" a ", "a", True),
        ("cpu-v3.1_x", "cpu-v3.1_x", True),
    ],
)
def test_a_constraint_chooses_nodes(text: str, features: str, fits: bool) -> None:
    assert parse_constraint(text).holds(frozenset(features.split())) is fits


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "missing"), ("&", "missing"), ("a&", "missing"), ("|a", "missing"), ("a||b", "missing"), ("()", "missing"), ("(a", "not closed"),
        ("a)", "unexpected"), ("a(b)", "unexpected"), ("[a|b]", "not supported"), ("a*2", "count"), ("a,b", "joined by"), ("!a", "absent"), ("a b", "blank"),
        ("a|b&c", "needs brackets"), ("(" * 17 + "a" + ")" * 17, "too deep"), ("&".join(["(a|b)"] * 12).replace("a", "aa"), "too many"),
    ],
)  # fmt: skip
def test_a_bad_constraint_is_refused_by_name(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_constraint(text)


def test_a_constraint_names_its_features() -> None:
    assert parse_constraint("(a|b)&c").names() == {"a", "b", "c"}


_trees = st.recursive(
    st.sampled_from("abcd"), lambda inner: st.tuples(inner, st.sampled_from("&|"), inner), max_leaves=6
)


def _write(tree: object) -> str:
    return tree if isinstance(tree, str) else f"({_write(tree[0])}{tree[1]}{_write(tree[2])})"  # type: ignore[index]


def _holds(tree: object, features: frozenset[str]) -> bool:
    if isinstance(tree, str):
        return tree in features
    left, operator, right = tree  # type: ignore[misc]
    return (all if operator == "&" else any)((_holds(left, features), _holds(right, features)))


@settings(max_examples=60)
@given(_trees, st.frozensets(st.sampled_from("abcd")))
def test_a_constraint_means_what_logic_says(tree: object, features: frozenset[str]) -> None:
    assert parse_constraint(_write(tree)).holds(features) is _holds(tree, features)


@pytest.mark.parametrize(
    "word",
    """None Priority Resources Dependency DependencyNeverSatisfied JobHeldUser JobHeldAdmin BeginTime JobArrayTaskLimit PartitionDown
    PartitionConfig PartitionTimeLimit ReqNodeNotAvail JobLaunchFailure NonZeroExitCode TimeLimit RaisedSignal BadConstraints NodeDown
    DeadLine OutOfMemory""".split(),
)
def test_every_word_of_slurm_that_sshq_says_is_known(word: str) -> None:
    assert parse_reason(word) == (Reason(word), "")


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        (
            "ReqNodeNotAvail, UnavailableNodes:node4",
            Reason.REQ_NODE_NOT_AVAIL,
            "UnavailableNodes:node4",
        ),  # recorded
        ("RaisedSignal:9", Reason.RAISED_SIGNAL, "9"),
        ("launch failed requeued held", Reason.LAUNCH_FAILED_HELD, ""),
    ],
)
def test_a_reason_and_its_detail_come_apart_and_together(text: str, reason: Reason, detail: str) -> None:
    assert parse_reason(text) == (reason, detail)
    assert format_reason(reason, detail) == text


def test_a_reason_is_explained_in_one_sentence() -> None:
    for reason in Reason:
        assert reason.sentence.endswith(".")
        assert reason.sentence[0].isupper()
        assert ". " not in reason.sentence
        assert explain_reason(reason.value) == reason.sentence
    assert "(UnavailableNodes:node4)." in explain_reason("ReqNodeNotAvail, UnavailableNodes:node4")
    assert explain_reason("SomethingElse") == "SomethingElse"
    assert parse_reason("SomethingElse: x") is None
