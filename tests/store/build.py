"""Records for tests: small ones by hand, arbitrary ones by hypothesis, from the types of the dataclasses themselves."""

from dataclasses import MISSING, fields
from enum import Enum
from types import UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from sshq.core.lifecycle import State
from sshq.core.model import Accounting, Job, JobSpec, Launch, LaunchState, Outcome

SPEC = JobSpec(name="sleep", uid=1000, user="anna", gid=1000, group="anna", script="5c" * 32, environ="e4" * 32)


def make_spec(**changed):
    return JobSpec(**{name: getattr(SPEC, name) for name in JobSpec.__slots__} | changed)


def make_job(job_id, *, spec=SPEC, **changed):
    return Job(**{"job_id": job_id, "spec": spec, "spec_id": job_id, "submit_at": 100.0 + job_id} | changed)


def make_launch(job_id, *, attempt=1, node="n1", **changed):
    made = {"boot": "b", "spool_id": "s", "seq": job_id, "epoch": 1, "decided_at": 200.0}
    return Launch(id=f"{job_id:024x}{attempt:08x}", job_id=job_id, attempt=attempt, node=node, **made | changed)


def settle_launch(job_id, *, state=State.COMPLETED, end_at=300.0, **launch):
    """The two rows that end a launch."""
    closed = make_launch(job_id, state=LaunchState.SETTLED, outcome=Outcome.EXITED, ended_at=end_at, **launch)
    row = Accounting(
        launch_id=closed.id, job_id=job_id, attempt=closed.attempt, node=closed.node, state=state,
        outcome=Outcome.EXITED, start_at=200.0, end_at=end_at, exit_code=0,
    )  # fmt: skip
    return closed, row


# Any text but the surrogate pairs JSON would join; lone ones (names that are not UTF-8) must survive.
TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from([chr(0xDC00 + byte) for byte in (0x80, 0xFF)]), max_size=12)
SCALARS = {
    str: TEXT,
    bool: st.booleans(),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
}


def values_of(hint):
    if get_origin(hint) in (UnionType, Union):
        return st.one_of([st.none() if arg is type(None) else values_of(arg) for arg in get_args(hint)])
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) is tuple:
        first, *rest = get_args(hint)
        if rest == [Ellipsis]:
            return st.lists(values_of(first), max_size=3).map(tuple)
        return st.tuples(*map(values_of, get_args(hint)))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    return SCALARS[hint] if hint in SCALARS else records_of(hint)


def records_of(record_type, **given):
    """Any record of the type: each field absent (where it has a default) or anything its type allows."""
    hints = get_type_hints(record_type)
    chosen = {f.name: given[f.name] if f.name in given else values_of(hints[f.name]) for f in fields(record_type)}
    optional = {f.name for f in fields(record_type) if f.default is not MISSING and f.name not in given}
    required = {name: strategy for name, strategy in chosen.items() if name not in optional}
    return st.fixed_dictionaries(
        required, optional={name: chosen[name] for name in optional}
    ).map(lambda values: record_type(**values))  # fmt: skip
