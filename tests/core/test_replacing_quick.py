"""Records that are changed and made in a quicker way are those that the ordinary way makes."""

import dataclasses
import inspect

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sshq.core import effects, events, model
from sshq.core.replacing import quick, replace
from store.build import SPEC, records_of

KINDS = (model.Launch, model.Accounting, model.JobSpec)
QUICK = [
    kind for module in (model, events, effects) for kind in vars(module).values()
    if dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__ and "become" in kind.__init__.__globals__
]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_change_is_that_of_dataclasses(data):
    kind = data.draw(st.sampled_from(KINDS))
    record, other = data.draw(records_of(kind)), data.draw(records_of(kind))
    names = data.draw(st.lists(st.sampled_from([f.name for f in dataclasses.fields(kind)]), unique=True, max_size=6))
    changes = {name: getattr(other, name) for name in names}
    assert replace(record, **changes) == dataclasses.replace(record, **changes)
    assert type(replace(record, **changes)) is kind


def test_a_field_that_there_is_not_is_refused():
    with pytest.raises(TypeError, match="JobSpec has no field 'colour'"):
        replace(SPEC, colour="red")


@pytest.mark.parametrize("kind", QUICK)
def test_what_is_made_quickly_takes_the_same_fields_and_stays_frozen(kind):
    bare = dataclasses.make_dataclass("Bare", [(f.name, f.type, f) for f in dataclasses.fields(kind)], frozen=True, kw_only=True)
    ours, theirs = (inspect.signature(one.__init__).parameters for one in (kind, bare))
    assert {n: p.default for n, p in ours.items()} == {n: p.default for n, p in theirs.items()}
    given = {f.name: f.name for f in dataclasses.fields(kind)}
    record = kind(**given)
    assert type(record) is kind
    assert {name: getattr(record, name) for name in given} == given
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, next(iter(given)), "other")
    with pytest.raises(TypeError):
        kind(**given, colour="red")


def test_records_that_need_more_are_refused():
    @dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
    class Growing:
        items: list[int] = dataclasses.field(default_factory=list)

    with pytest.raises(TypeError, match=r"Growing\.items is no plain field"):
        quick(Growing)
