"""Which interpreter will do: versions, requirements, and the words for why none does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sshq.core.pythons import Found, Need, choose, fulfils, read_need, read_requirement, version_key, write_need


@pytest.mark.parametrize(
    ("version", "clause", "fits"),
    [
        ("1.20", (">=", "1.20"), True), ("1.20.0", ("==", "1.20"), True), ("1.19.5", (">=", "1.20"), False),
        ("1.100", (">", "1.20"), True), ("2.0", ("<", "2"), False), ("2.0rc1", ("<", "2"), False), ("1.9", ("<", "2"), True),
        ("2.0rc1", (">=", "2"), False), ("2.0.post1", (">=", "2.0"), True), ("2.0.dev3", ("<=", "2.0a1"), True),
        ("1.20.3", ("~=", "1.20.1"), True), ("1.21", ("~=", "1.20.1"), False), ("2.1", ("~=", "1.20"), False),
        ("1.20+cu118", ("==", "1.20"), True), ("1!1.0", (">", "9"), True), ("1.20", ("!=", "1.20.0"), False),
        ("what", (">=", "0"), False),
    ],
)  # fmt: skip
def test_versions(version, clause, fits):
    assert fulfils(version, *clause) is fits


def test_versions_by_their_beginning():
    assert fulfils("1.20.4", "==", "1.20", any_below=True)
    assert not fulfils("1.2", "==", "1.20", any_below=True)
    assert not fulfils("1.20.4", "!=", "1.20", any_below=True)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.lists(st.integers(0, 30), min_size=1, max_size=4))
def test_versions_are_ordered_as_their_numbers(one, other):
    first, second = ".".join(map(str, one)), ".".join(map(str, other))
    width = 5
    padded = [tuple(numbers + [0] * (width - len(numbers))) for numbers in (one, other)]
    assert (version_key(first) < version_key(second)) == (padded[0] < padded[1])
    assert fulfils(first, "==", second) == (padded[0] == padded[1])


def test_requirements():
    assert read_requirement("scikit-learn >=1.2, <2") == ("scikit-learn", ((">=", "1.2", False), ("<", "2", False)))
    assert read_requirement("numpy==1.*") == ("numpy", (("==", "1", True),))
    for text in ("", "numpy>", "numpy[x]", "a b", "numpy>=1;python_version<'3'", "-x", "x>=1.*", "x\ny", "$(touch /tmp/x)"):
        with pytest.raises(ValueError, match="not a requirement"):
            read_requirement(text)


@given(
    st.builds(
        Need, version=st.none() | st.just("3.11"), implementation=st.sampled_from(["", "cpython", "pypy"]),
        candidates=st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_characters="\x7f")), max_size=6).map(tuple),
        requires=st.lists(st.sampled_from(["numpy", "x>=1,<2"]), max_size=3).map(tuple),
    )
)  # fmt: skip
def test_a_need_goes_round(need):
    assert read_need(write_need(need)) == need


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version":"3","implementation":"","candidates":[],"requires":[]}',
             '{"version":null,"implementation":"","candidates":["a\\nb"],"requires":[]}',
             '{"version":null,"implementation":"","candidates":[],"requires":["x;y"]}',
             '{"version":null,"implementation":"","candidates":' + str(["a"] * 7).replace("'", '"') + ',"requires":[]}'],
)  # fmt: skip
def test_what_is_no_need_is_refused(text):
    with pytest.raises(ValueError, match=r"\w"):
        read_need(text)


def of(path: str, version: str, made: str = "cpython", **packages: str | None) -> Found:
    return Found(path=path, version=version, implementation=made, packages=packages)


def test_the_first_that_fits_is_taken_else_it_is_said_what_is_there():
    own = Need(version="3.11", implementation="cpython", candidates=("", "python3"))
    old, right, pypy = of("/usr/bin/python3", "3.9.2"), of("/opt/py", "3.11.7"), of("/usr/bin/pypy3", "3.11.1", "pypy")
    assert choose(own, [old, right]).path == "/opt/py"
    assert choose(own, [old, pypy]).detail == "has 3.9.2 (/usr/bin/python3), pypy 3.11.1 (/usr/bin/pypy3)"
    assert choose(own, []).detail == "has none"
    assert choose(Need(), [of("/p2", "2.7.18"), old]).path == "/usr/bin/python3"
    assert choose(Need(), [of("/p2", "2.7.18")]).detail == "has 2.7.18 (/p2)"
    wanted = Need(requires=("numpy>=1.20",))
    assert choose(wanted, [of("/a", "3.9.2", numpy="1.19.5"), of("/b", "3.9.2", numpy="1.26")]).path == "/b"
    assert choose(wanted, [of("/a", "3.9.2", numpy="1.19.5")]).detail == "/a (3.9.2) has numpy 1.19.5"
    assert choose(wanted, [of("/a", "3.9.2", numpy=None)]).detail == "/a (3.9.2) lacks numpy"
    assert str(Need(version="3.11", implementation="cpython", requires=("a", "b>1"))) == "Python 3.11 with a and b>1"
