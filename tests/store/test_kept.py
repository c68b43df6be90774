"""What stays with the history so that a job can be told of and submitted again, and when it goes."""

import json
import os

import pytest

from sshq.core.model import HostFacts, Purged, ScriptBlob, VariableDigests
from sshq.errors import StoreError
from sshq.store.history import HistoryReader
from sshq.store.jobs import Store
from sshq.store.kept import find_spare_scripts
from sshq.store.variables import FILE, Difference, Variables, names_of
from store.build import make_job, make_launch, make_spec, settle_launch

MIB = 1 << 20


@pytest.fixture
def store(tmp_path):
    store = Store.open(tmp_path / "state", create=True)
    store.begin_epoch()
    yield store
    store.close()


def put(store, job_id, *, script="a", size=10, kind="script", environ="e", facts=None, purged=True, end_at=500.0):
    """A job of the past with all that hangs on it."""
    spec = make_spec(script=script * 64, environ=environ * 64, kind=kind, name=f"j{job_id}")
    rows = [
        make_job(job_id, spec=spec, end_at=end_at),
        ScriptBlob(digest=script * 64, data=b"x" * size),
        VariableDigests(environ=environ * 64, text='{"key":"k","values":{}}'),
    ]
    if facts is not None:
        rows += [HostFacts(digest=facts, text=json.dumps({"kernel": facts})), make_launch(job_id, facts=facts)]
    store.commit(rows, job_id + 1)
    if facts is not None:
        store.commit(list(settle_launch(job_id, facts=facts)), job_id + 1)
    if purged:
        store.commit([Purged(job_id=job_id)], job_id + 1)


def test_a_script_stays_as_long_as_the_history_has_its_job(store):
    put(store, 1)
    store.sweep(0.0, scripts_bytes_max=MIB)
    assert store.script("a" * 64) == b"x" * 10
    assert store.script_size("a" * 64) == 10
    assert store.forget_before(400.0) == 0
    assert store.forget_before(600.0) == 1
    assert store.script_size("a" * 64) is None
    with pytest.raises(StoreError):
        store.script("a" * 64)


def test_a_sweep_does_not_go_through_the_history_of_a_script(store):
    def count_steps() -> int:
        steps = []
        store._connection.set_progress_handler(lambda: steps.append(1), 10)
        store.sweep(0.0, scripts_bytes_max=MIB)
        store._connection.set_progress_handler(None, 0)
        return len(steps)

    spec = make_spec(script="a" * 64)
    store.commit([ScriptBlob(digest="a" * 64, data=b"x"), make_job(1, spec=spec, end_at=500.0), Purged(job_id=1)], 2)
    few = count_steps()
    store.commit([row for n in range(2, 1000) for row in (make_job(n, spec=spec, end_at=500.0), Purged(job_id=n))], 1000)
    assert count_steps() <= few + 10
    assert store.script_size("a" * 64) == 1


def test_a_call_of_a_function_leaves_no_script(store):
    put(store, 1, script="a", kind="callable")
    put(store, 2, script="b", kind="callable", purged=False)
    put(store, 3, script="c", kind="container")
    store.sweep(0.0, scripts_bytes_max=MIB)
    assert [store.script_size(name * 64) for name in "abc"] == [None, 10, 10]


def test_scripts_of_the_past_have_a_bound_and_those_of_the_queue_do_not_count(store):
    put(store, 1, script="a", size=400)
    put(store, 2, script="b", size=400, purged=False)
    put(store, 3, script="c", size=400)
    put(store, 4, script="d", size=400)
    store.sweep(0.0, scripts_bytes_max=900)
    assert [store.script_size(name * 64) for name in "abcd"] == [None, 400, 400, 400]
    store.sweep(0.0, scripts_bytes_max=0)
    assert [store.script_size(name * 64) for name in "abcd"] == [None, 400, None, None]


def test_what_two_jobs_share_goes_with_the_second(store):
    put(store, 1, facts="f1", end_at=100.0)
    put(store, 2, facts="f1", end_at=200.0)
    put(store, 3, script="c", environ="d", facts="f2", end_at=300.0)
    kept = lambda: (store.script_size("a" * 64), store.variables("e" * 64), store.facts("f1"))  # noqa: E731
    assert store.forget_before(150.0) == 1
    assert None not in kept()
    assert [launch.facts for launch in store.launches_of(2, 10)] == ["f1"]
    assert store.forget_before(250.0) == 1
    assert kept() == (None, None, None)
    assert store.facts("f2") == '{"kernel": "f2"}'
    assert store.variables("d" * 64) is not None
    assert store.forget_before(350.0) == 1
    for table in ("script", "variables", "facts", "launch", "spec", "job", "accounting"):
        assert store._select(f"SELECT count(*) FROM {table}") == [(0,)], table


def test_a_thousand_launches_on_one_host_are_one_row_of_facts(store):
    rows = []
    for number in range(1, 1001):
        rows += [make_job(number, spec=make_spec()), make_launch(number, facts="f"), HostFacts(digest="f", text="{}")]
    store.commit(rows, 1001)
    assert store._select("SELECT count(*) FROM facts") == [(1,)]
    assert store._select("SELECT count(*) FROM spec") == [(1,)]


# ---- environments --------------------------------------------------------------------------------------------------


def test_a_difference_is_named_and_no_value_is_kept(tmp_path):
    variables = Variables(tmp_path)
    secret = "hunter2-in-the-environment"
    text = variables.describe({"A": "1", "B": secret, "C": "3", "ö\udcff": "\udcfe"})
    assert secret not in text
    assert names_of(text) == ["A", "B", "C", "ö\udcff"]
    assert variables.compare(text, {"A": "1", "B": "other", "D": "4", "ö\udcff": "\udcfe"}) == Difference(changed=("B",), gone=("C",), new=("D",))
    assert variables.compare(text, {"A": "1", "B": secret, "C": "3", "ö\udcff": "\udcfe"}) == Difference()
    assert Variables(tmp_path).compare(text, {"A": "1"}) == Difference(gone=("B", "C", "ö\udcff"))  # the key outlives the controller


def test_equal_values_of_two_variables_do_not_look_equal(tmp_path):
    values = json.loads(Variables(tmp_path).describe({"A": "same", "B": "same"}))["values"]
    assert values["A"] != values["B"]


def test_without_the_key_nothing_is_compared(tmp_path):
    text = Variables(tmp_path).describe({"A": "1"})
    (tmp_path / FILE).unlink()
    assert Variables(tmp_path).compare(text, {"A": "1"}) is None


def test_the_key_is_for_its_owner_and_a_damaged_one_is_named(tmp_path):
    Variables(tmp_path)
    assert os.stat(tmp_path / FILE).st_mode & 0o777 == 0o600
    (tmp_path / FILE).write_bytes(b"short")
    with pytest.raises(StoreError) as caught:
        Variables(tmp_path)
    assert str(tmp_path / FILE) in caught.value.message


def test_a_script_that_a_job_has_taken_up_since_it_was_found_to_be_spare_stays(store):
    put(store, 1, script="a")
    put(store, 2, script="b")
    spare = find_spare_scripts(store._select, 0)
    assert sorted(spare) == ["a" * 64, "b" * 64]
    put(store, 3, script="a", purged=False)
    assert store.drop_spare(0.0, spare) == 1
    assert store.script("a" * 64)
    with pytest.raises(StoreError):
        store.script("b" * 64)


def test_a_store_in_use_is_looked_through_for_spare_scripts_beside_it(store):
    put(store, 1, script="a", size=600)
    put(store, 2, script="b", size=600)
    assert HistoryReader(store.path).ask(lambda select: find_spare_scripts(select, 1000)) == ["a" * 64]  # the first that came
