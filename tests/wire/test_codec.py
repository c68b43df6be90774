"""The codec: what may cross the socket, what may not, and where the fault is said to be."""

import json
import math
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sshq.wire.codec import (
    CodecError,
    decode_answer,
    decode_json,
    encode_json,
    encode_plain,
    frame_header,
    frame_json,
    parse_header,
)
from sshq.wire.protocol import DATA_FRAME, DEPTH_MAX, JSON_FRAME

texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from([chr(c) for c in (0xDC80, 0xDCFF)]))
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts
scalars |= st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)
objects = st.dictionaries(texts, values)


@given(objects)
def test_what_is_encoded_is_decoded_again(value):
    assert decode_json(encode_json(value)) == value


@given(objects)
def test_a_frame_names_its_kind_and_length(value):
    frame = frame_json(value)
    assert parse_header(frame[:5]) == (JSON_FRAME, len(frame) - 5)
    assert parse_header(frame_header(DATA_FRAME, 3)) == (DATA_FRAME, 3)


@settings(max_examples=150)
@given(st.binary(max_size=200))
@example(b'{"a":"\xff"}')
@example(b'"\\')
@example(b"{" * 100)
def test_any_bytes_are_an_object_or_a_codec_error(body):
    try:
        assert isinstance(decode_json(body), dict)
    except CodecError:
        pass


@settings(max_examples=100)
@given(objects, st.data())
def test_a_damaged_frame_is_an_object_or_a_codec_error(value, data):
    body = bytearray(encode_json(value))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert encode_json(decode_json(bytes(body)))
    except CodecError:
        pass


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"a":{"b":[1,{"c":1,"c":2}]}}', "a.b[1].c: a key that stands there twice"),
        ('{"a":[NaN]}', "a[0]: not a finite number"),
        ('{"a":-Infinity}', "a: not a finite number"),
        ('{"a":1e999}', "a: not a finite number"),
        ('{"params":{"nodes":[1,2,9223372036854775808]}}', "params.nodes[2]: an integer beyond 64 bits"),
        ('{"a":-9223372036854775809}', "a: an integer beyond 64 bits"),
        ('{"a":%s}' % ("9" * 5000), "a: an integer beyond 64 bits"),
        ('{"a":["\\ud800"]}', "a[0]: half of a surrogate pair"),
        ("[]", "a JSON object is needed, not a list"),
        ("null", "a JSON object is needed, not null"),
        ("", "not JSON at character 1: Expecting value"),
        ('{"a":1}x', "not JSON at character 8: Extra data"),
        ("{'a':1}", "not JSON at character 2: Expecting property name enclosed in double quotes"),
        ('{"a":"\t"}', "not JSON at character 7: Invalid control character at"),
        ('{"a":"\n"}', "not JSON at character 7: Invalid control character at"),
        ('\ufeff{"a":1}', "not JSON at character 1: Expecting value"),
    ],
)
def test_what_is_not_strict_is_refused_with_its_place(body, message):
    with pytest.raises(CodecError) as caught:
        decode_json(body.encode())
    assert str(caught.value) == message


@pytest.mark.parametrize("number", ["9223372036854775808", "-9223372036854775809", "1e999", "-1E+400", "1" + "0" * 400 + ".0", "NaN"])
def test_a_long_body_is_read_as_strictly_as_a_short_one(number):
    for padding in (1, 10_000):
        with pytest.raises(CodecError, match=r"^a\[1\]: "):
            decode_json(b'{"pad":"%b","a":[1,%b]}' % (b"x" * padding, number.encode()))
        assert decode_json(b'{"pad":"%b","a":1e99}' % (b"x" * padding))["a"] == 1e99
        with pytest.raises(CodecError, match="a key that stands there twice"):
            decode_json(b'{"pad":"%b","a":1,"a":2}' % (b"x" * padding))


def test_bytes_that_are_not_utf_8_are_refused_with_their_place():
    with pytest.raises(CodecError, match="not UTF-8 at byte 7"):
        decode_json(b'{"a":"\xff"}')


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {1: 2}}, "a: a key that is a number, not a string"),
        ({"a": [b"x"]}, "a[0]: bytes has no JSON form"),
        ({"a": {"b": math.nan}}, "a.b: not a finite number"),
        ({"a": 2**63}, "a: an integer beyond 64 bits"),
        ({"a": {3}}, "a: set has no JSON form"),
        ({"a": "\ud800"}, "a: half of a surrogate pair"),
    ],
)
def test_what_cannot_cross_is_refused_before_it_leaves(value, message):
    with pytest.raises(CodecError) as caught:
        encode_json(value)
    assert str(caught.value) == message


@pytest.mark.parametrize("opening,closing", [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
def test_nesting_is_bounded_in_both_directions(opening, closing):
    levels = opening.count(b"[") + opening.count(b"{")
    body = b'{"a":' + opening * 40 + b"1" + closing * 40 + b"}"
    with pytest.raises(CodecError, match=f"nested deeper than {DEPTH_MAX}"):
        decode_json(body)
    deepest = (DEPTH_MAX - 1) // levels
    allowed = decode_json(b'{"a":' + opening * deepest + b"1" + closing * deepest + b"}")
    assert decode_json(encode_json(allowed)) == allowed
    with pytest.raises(CodecError, match=f"nested deeper than {DEPTH_MAX}"):
        encode_json(json.loads(body))


def test_brackets_in_strings_are_not_nesting():
    value = {"script": "[[{{" * 100 + '\\"' + "]" * 7}
    assert decode_json(encode_json(value)) == value


@pytest.mark.parametrize(
    "body",
    [b"[" * (8 << 20), b'{"a":' * (1 << 20), b'"\\"' * (2 << 20), b'{"a":"' + b'\\"' * (3 << 20), b"[]" * (4 << 20)],
)
def test_a_hostile_frame_of_full_size_is_refused_in_linear_time(body):
    started_at = time.process_time()
    with pytest.raises(CodecError):
        decode_json(body)
    assert time.process_time() - started_at < 20  # quadratic would be hours


@given(objects)
def test_what_the_controller_made_is_written_and_read_alike_the_quick_way(value):
    assert encode_plain(value) == encode_json(value)
    assert decode_answer(encode_json(value)) == value


@pytest.mark.parametrize("value", [{"a": {1}}, {"a": float("nan")}, {"a": ["\ud800"]}, {"a": b"x"}])
def test_what_cannot_cross_is_named_the_quick_way_too(value):
    with pytest.raises(CodecError) as quick:
        encode_plain(value)
    with pytest.raises(CodecError) as slow:
        encode_json(value)
    assert str(quick.value) == str(slow.value)


@pytest.mark.parametrize("body", [b"", b"[1]", b'{"a":NaN}', b'{"a":1} ', b'{"a":1}x', b"\xff", b'{"a":1e999}', b'{"a":' * 200])
def test_an_answer_that_is_none_is_refused_as_a_request_is(body):
    try:
        strict = decode_json(body)
    except CodecError as error:
        if b"1e999" in body:  # infinite: nothing of ours sends it, and nothing of ours minds it
            return
        with pytest.raises(CodecError) as refused:
            decode_answer(body)
        assert str(refused.value) == str(error)
    else:
        assert decode_answer(body) == strict
