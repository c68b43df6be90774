"""What is wrong with an inventory is said in one message: place, the line itself, and the way out.

`malformed.txt` holds the whole texts: `#### name`, the file, `----`, what stderr shows.
"""

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sshq.errors import InventoryError
from sshq.inventory.composer import DEPTH_MAX, FILE_BYTES_MAX, parse_document
from sshq.inventory.config import parse_config

from .files import load_text

GOLDEN = (Path(__file__).parent / "malformed.txt").read_text()
CASES = [
    pytest.param(text, shown, id=name)
    for name, text, shown in re.findall(r"^#### ([^\n]+)\n(.*?)\n----\n(.*?)(?=^#### |\Z)", GOLDEN, re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize(("text", "shown"), CASES)
def test_the_message_names_place_line_and_way_out(text: str, shown: str) -> None:
    with pytest.raises(InventoryError) as caught:
        load_text(text + "\n")
    assert caught.value.render("sshq") == shown


def test_the_corpus_is_not_read_by_halves() -> None:
    assert len(CASES) == GOLDEN.count("#### ") >= 90


@pytest.mark.parametrize(("text", "shown"), CASES)
def test_no_message_is_longer_than_a_screen_line_and_has_a_place(text: str, shown: str) -> None:
    first = shown.splitlines()[0]
    assert re.match(r"sshq: error: inventory\.yaml(:\d+:\d+)?: ", first)
    assert len(first) <= 150


def refuse(text: str | bytes) -> InventoryError:
    with pytest.raises(InventoryError) as caught:
        load_text(text)
    return caught.value


def test_a_byte_that_is_not_utf8_is_named() -> None:
    error = refuse(b"all:\n  vars: {name: M\xfcller}\n")
    assert (error.line, error.column, error.bare_message) == (2, 17, "the byte 0xfc is not UTF-8")
    assert error.hint == "iconv -f latin1 -t utf-8 inventory.yaml"


def test_a_control_character_is_named_and_not_printed() -> None:
    error = refuse("all:\n  vars: {a: \x1b[31m}\n")
    assert (error.line, error.column) == (2, 13)
    assert "\x1b" not in error.render("sshq")


def test_depth_is_bounded() -> None:
    error = refuse("all: " + "{a: " * 5000)
    assert error.bare_message == f"nested deeper than {DEPTH_MAX} levels"
    chain = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 100))
    assert refuse(chain).bare_message == f"nested deeper than {DEPTH_MAX} levels"


def test_a_billion_laughs_are_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    assert "aliases counted each time" in refuse("\n".join(lines)).bare_message
    merges = ["a0: &a0 {" + ", ".join(f"k{n}: 1" for n in range(2000)) + "}"] + [f"b{n}: {{<<: *a0}}" for n in range(300)]
    assert "aliases counted each time" in refuse("\n".join(merges)).bare_message


def test_size_is_bounded() -> None:
    assert "are too many" in refuse(b"#" * (FILE_BYTES_MAX + 1)).bare_message


def test_a_number_of_a_million_digits_costs_no_time() -> None:
    assert refuse("all: {vars: {a: " + "1" * 1_000_000 + "}}").bare_message == "a number of 1000000 characters"


YAML_LIKE = st.text(alphabet="all:hostsvrchidn\n  -{}[],\"'#&*!|>?%@`\t0123456789_sshq~=<\x85\u2028é", max_size=120)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80) | YAML_LIKE.map(str.encode))
@example(b"")
@example(b"\xef\xbb\xbf")
@example(b"\xff\xfeA\x00")
@example(b'all: {hosts: {"\\0": , "\\ud800": {sshq_slots: 1}}}')
@example(b"all: {vars: {x: 0x_, y: 1__:, z: 0b, w: 0000-00-00}}")
@example(b"a: !!binary ####")
@example(b"a: !!int x\nb: !!bool y")
@example(b"a: !!timestamp now")
@example(b"a: !!set [b]")
@example(b"? !!null x\n: 1")
@example(b"all: {hosts: {'../../etc': {sshq_slots: 1}}}")
def test_arbitrary_bytes_raise_nothing_but_an_inventory_error(data: bytes) -> None:
    for read in (load_text, lambda text: parse_config(text, "config.yaml"), lambda text: parse_document(text, name="x")):
        try:
            read(data)
        except InventoryError as error:
            assert error.render("sshq").startswith("sshq: error: ")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_one_changed_byte_of_the_example_raises_nothing_else(data: st.DataObject) -> None:
    example_text = (Path(__file__).parent.parent.parent / "inventory.example.yaml").read_bytes()[:1600]
    index = data.draw(st.integers(0, len(example_text) - 1))
    changed = example_text[:index] + bytes([data.draw(st.integers(0, 255))]) + example_text[index + 1 :]
    try:
        load_text(changed)
    except InventoryError as error:
        assert error.message
