"""Records and their text: whatever the model allows comes back equal, whatever it forbids does not go in."""

import json
import math
import signal
import sys
from dataclasses import MISSING, field, fields, make_dataclass, replace
from enum import Enum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sshq.core import model
from sshq.core.arrangements import PartitionRecord, Reservation
from sshq.core.model import Accounting, Job, JobSpec, Launch, NodeRecord, Step
from sshq.errors import CheckFailedError, StoreError
from sshq.store.batch import JOBS, SPECS
from sshq.store.records import Codec, seal
from store.build import SPEC, make_job, make_spec, records_of

STORED = (JobSpec, Job, Launch, Accounting, Step, NodeRecord)


@settings(max_examples=60, deadline=None)
@given(record=st.one_of([records_of(kind) for kind in STORED if kind is not Job]))
def test_every_record_comes_back_equal(record):
    codec = Codec(type(record))
    assert codec.decode(codec.encode(record)) == record


@settings(max_examples=60, deadline=None)
@given(record=st.one_of([records_of(kind) for kind in (*STORED, PartitionRecord, Reservation)]))
def test_the_text_is_the_same_as_field_by_field(record):
    codec = Codec(type(record), leave_out=("spec",) if isinstance(record, Job) else ())
    assert codec.write(record) == codec.write_each(record)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_number_that_json_has_no_word_for_is_refused(value):
    with pytest.raises(CheckFailedError, match="Job.* cannot be stored"):
        JOBS.encode(make_job(7, start_at=value))


@settings(max_examples=40, deadline=None)
@given(job=records_of(Job, spec=st.just(SPEC)))
def test_a_job_comes_back_with_the_spec_kept_elsewhere(job):
    assert JOBS.decode(JOBS.encode(job), spec=SPEC) == job


@settings(max_examples=40, deadline=None)
@given(jobs=st.lists(records_of(Job, spec=st.sampled_from([SPEC, make_spec(name="other")])), max_size=5))
def test_many_jobs_come_back_as_each_by_itself(jobs):
    assert JOBS.decode_many([JOBS.encode(job) for job in jobs], spec=[job.spec for job in jobs]) == jobs


@settings(max_examples=40, deadline=None)
@given(records=st.lists(records_of(JobSpec), max_size=5))
def test_many_records_come_back_as_each_by_itself(records):
    assert SPECS.decode_many([SPECS.encode(record) for record in records]) == records


def test_of_many_records_those_that_say_the_same_keep_its_text_once():
    first, second = SPECS.decode_many([SPECS.encode(make_spec(name=name)) for name in ("a", "b")])
    assert first.script is second.script


def test_what_was_read_is_interned_nowhere():
    """A Python 3.12.3 keeps such a text until it ends: a look at a long history would stay in memory."""
    (among_others,) = SPECS.decode_many([SPECS.encode(make_spec(script="f" * 64))])
    for spec in (among_others, SPECS.decode(SPECS.encode(make_spec(script="f" * 64)))):
        assert sys.intern("".join(["f"] * 64)) is not spec.script


def test_the_text_is_short_and_readable():
    text = JOBS.encode(make_job(7, state=model.State.RUNNING, nodes=("n1",)))
    assert text == '{"v":1,"job_id":7,"spec_id":7,"state":"RUNNING","submit_at":107.0,"nodes":["n1"],"crc":"a21f6f18"}'


def test_any_flipped_bit_of_a_record_is_noticed():
    text = JOBS.encode(make_job(7, state=model.State.RUNNING, nodes=("n1",)))
    for place in range(len(text)):
        for bit in range(7):
            flipped = text[:place] + chr(ord(text[place]) ^ 1 << bit) + text[place + 1 :]
            with pytest.raises(StoreError) as alone:
                JOBS.decode(flipped, spec=SPEC)
            with pytest.raises(StoreError) as among_others:
                JOBS.decode_many([text, flipped, text], spec=[SPEC] * 3)
            assert among_others.value.message == alone.value.message


@pytest.mark.parametrize(
    ("text", "why"), [('{"v":1,"name":"n1"}', "it has no checksum"), ('{"v":1,"name":"n1","crc":"00000000"}', "its checksum is wrong")]
)
def test_a_record_that_was_not_sealed_is_not_believed(text, why):
    codec = Codec(NodeRecord)
    for read in (codec.decode, lambda text: codec.decode_many([codec.encode(NodeRecord(name="n1")), text])):
        with pytest.raises(StoreError, match=why):
            read(text)


def test_a_field_added_later_reads_from_old_rows_as_its_default():
    old = [(f.name, f.type, f) for f in fields(NodeRecord)]
    new = ("racks", tuple[str, ...], field(default=("r1",)))
    Grown = make_dataclass("Grown", [*old, new], frozen=True, slots=True, kw_only=True)  # noqa: N806
    assert Codec(Grown).decode(Codec(NodeRecord).encode(NodeRecord(name="n1"))).racks == ("r1",)


# What old rows mean by leaving a field out; every other default is empty.  Add for a new field, never edit: a changed
# default changes jobs already stored.
NOT_EMPTY_DEFAULTS = {
    "JobSpec": {
        "kind": "script", "work_dir": "/", "submit_dir": "/", "umask": 0o022, "num_nodes": 1, "num_tasks": 1,
        "cpus_per_task": 1, "requeue": "yes", "array_step": 1, "container_pull": "never",
    },
    "Job": {"state": "PENDING", "reason": "None", "released": True},
    "Launch": {"state": "INTENT"},
    "Accounting": {},
    "Step": {"tasks": 1, "cpus": 1},
    "NodeRecord": {"account_uid": -1},
}  # fmt: skip


@pytest.mark.parametrize("kind", STORED, ids=lambda kind: kind.__name__)
def test_a_stored_default_never_changes(kind):
    defaults = {f.name: f.default for f in fields(kind) if f.default is not MISSING}
    plain = {name: value.name if isinstance(value, Enum) else value for name, value in defaults.items()}
    assert {name: value for name, value in plain.items() if value} == NOT_EMPTY_DEFAULTS[kind.__name__]


BROKEN = [
    ('{"v":1,]}', "it is not JSON"),
    ("{}", "version None, this sshq reads 1"),
    ('{"v":2,"name":"n1"}', "version 2, this sshq reads 1"),
    ('{"v":1,"name":"n1","colour":1}', "unknown field colour"),
    ('{"v":1,"name":1}', "field name: not text: 1"),
    ('{"v":1,"name":"n1","generation":true}', "field generation: not an integer: True"),
    ('{"v":1,"name":"n1","down_asserted":1}', "field down_asserted: not a truth value: 1"),
    ('{"v":1,"name":"n1","drain_at":"soon"}', "field drain_at: not a number: 'soon'"),
    ('{"v":1}', "it lacks 'name'"),
]


@pytest.mark.parametrize(("text", "why"), BROKEN, ids=[why for _, why in BROKEN])
def test_a_damaged_record_is_named_with_its_field(text, why):
    with pytest.raises(StoreError) as caught:
        Codec(NodeRecord).decode(seal(text))
    assert caught.value.message == f"a NodeRecord record of the store cannot be read: {why}"


@pytest.mark.parametrize(("text", "why"), BROKEN, ids=[why for _, why in BROKEN])
@pytest.mark.parametrize("before", [0, 3])
def test_a_damaged_record_among_many_is_named_with_its_field(text, why, before):
    codec = Codec(NodeRecord)
    good = codec.encode(NodeRecord(name="n1"))
    with pytest.raises(StoreError) as caught:
        codec.decode_many([good] * before + [seal(text), good])
    assert caught.value.message == f"a NodeRecord record of the store cannot be read: {why}"


def test_records_that_make_sense_only_together_are_refused():
    """What was cut at the wrong place reads as JSON when it is put together again."""
    texts = [seal('{"v":1,"name":"a}'), seal('b"}')]
    with pytest.raises(StoreError, match="it is not JSON"):
        Codec(NodeRecord).decode_many(texts)


@given(text=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists).map(json.dumps) | st.text())
def test_no_text_whatever_raises_anything_else(text):
    for part in (text, f'{{"v":1,"job_id":1,"spec_id":1,"submit_at":0,"nodes":{text}}}'):
        for read in (part, seal(part)):
            try:
                JOBS.decode_many([read, read], spec=[SPEC, SPEC])
            except StoreError:
                pass
        try:
            JOBS.decode(part, spec=SPEC)
        except StoreError:
            pass
        try:
            JOBS.decode(seal(part), spec=SPEC)
        except StoreError:
            pass


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("time_limit_s", "60"), ("begin_at", float("nan")), ("begin_at", float("inf")), ("requeue", "maybe"), ("args", ["a"]),
        ("args", (1,)), ("signal", (1, 2)), ("retries", True), ("comment", b"x"), ("exclusive", 1.0 + 1),
    ],
)  # fmt: skip
def test_what_could_not_be_read_back_is_not_written(field, value):
    with pytest.raises(CheckFailedError, match=r"JobSpec\.|JobSpec"):
        Codec(JobSpec).encode(make_spec(**{field: value}))


def test_a_signal_number_by_its_name_is_an_integer():
    job = make_job(1, exit_signal=signal.SIGTERM)
    assert JOBS.decode(JOBS.encode(job), spec=SPEC) == replace(job, exit_signal=15)
