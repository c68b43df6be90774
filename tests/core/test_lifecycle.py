"""The job state machine: every pair of state and trigger, then random lives."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sshq.core.lifecycle import FINAL, TRANSITIONS, State, Trigger, diagram, next_state
from sshq.errors import BugError, IllegalTransitionError

# design.md section 4, typed out: what may follow what, whatever the code says.
ENDINGS = {
    Trigger.EXITED_ZERO: State.COMPLETED,
    Trigger.EXITED_NONZERO: State.FAILED,
    Trigger.MEMORY_EXCEEDED: State.OUT_OF_MEMORY,
    Trigger.CANCELLED: State.CANCELLED,
    Trigger.PREEMPTED: State.PREEMPTED,
    Trigger.TIME_LIMIT: State.TIMEOUT,
    Trigger.NODE_LOST: State.NODE_FAIL,
}
DESIGN = {
    State.PENDING: {
        Trigger.ALLOCATED: State.CONFIGURING,
        Trigger.CANCELLED: State.CANCELLED,
        Trigger.DEADLINE_PASSED: State.DEADLINE,
    },
    State.CONFIGURING: {**ENDINGS, Trigger.LAUNCHED: State.RUNNING, Trigger.LAUNCH_FAILED: State.PENDING},
    State.RUNNING: {**ENDINGS, Trigger.STOPPED: State.SUSPENDED},
    State.SUSPENDED: {**ENDINGS, Trigger.CONTINUED: State.RUNNING},
}


@pytest.mark.parametrize(("state", "trigger"), list(product(State, Trigger)))
def test_each_pair_moves_as_designed_or_is_refused_by_name(state: State, trigger: Trigger) -> None:
    allowed = DESIGN.get(state, {Trigger.REQUEUED: State.PENDING})
    if trigger in allowed:
        assert next_state(state, trigger) is allowed[trigger]
    else:
        with pytest.raises(IllegalTransitionError, match=f"a {state.name} job cannot take {trigger.name}"):
            next_state(state, trigger)


def test_an_illegal_transition_is_our_bug_and_not_a_users_mistake() -> None:
    assert issubclass(IllegalTransitionError, BugError)
    assert IllegalTransitionError.exit_code == 70


@pytest.mark.parametrize("live", [s for s in State if s not in FINAL])
def test_a_live_job_can_always_be_cancelled(live: State) -> None:
    assert next_state(live, Trigger.CANCELLED) is State.CANCELLED


def test_every_state_can_be_reached_from_pending() -> None:
    reached, frontier = set[State](), {State.PENDING}
    while frontier:
        reached |= frontier
        frontier = {to for s in frontier for to in TRANSITIONS[s].values()} - reached
    assert reached == set(State)


def test_the_only_way_out_of_a_final_state_is_the_queue() -> None:
    assert {tuple(TRANSITIONS[s].items()) for s in FINAL} == {((Trigger.REQUEUED, State.PENDING),)}


@settings(max_examples=60)
@given(st.lists(st.sampled_from([t for t in Trigger if t is not Trigger.REQUEUED])))
def test_a_verdict_outlives_whatever_is_reported_later(life: list[Trigger]) -> None:
    state, verdict = State.PENDING, None
    for trigger in life:
        if trigger in TRANSITIONS[state]:
            state = next_state(state, trigger)
        verdict = verdict or (state if state in FINAL else None)
    assert verdict is None or state is verdict


def test_codes_are_those_squeue_prints() -> None:
    codes = "PD CF R S CD F CA TO OOM NF PR DL"  # squeue(1), JOB STATE CODES
    assert [s.value for s in State] == codes.split()


def test_the_diagram_has_each_edge_once_and_no_other() -> None:
    first, *edges = diagram().splitlines()
    wanted = [
        f"{s.name} --> {to.name}: {t.name.lower().replace('_', ' ')}"
        for s in State
        for t, to in TRANSITIONS[s].items()
    ]
    ends = [f"{s.name} --> [*]" for s in State if s in FINAL]
    assert first == "stateDiagram-v2"
    assert sorted(e.strip() for e in edges) == sorted(["[*] --> PENDING: submitted", *wanted, *ends])
