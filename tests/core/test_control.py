"""Users' verbs: who may, what each does to each state, and that a refused verb loses nothing."""

import pytest
from scenario import ANNA, BERT, ROOT, Scenario

from sshq.core.effects import KillLaunch


def in_state(state: str, **spec: object) -> Scenario:
    s = Scenario().nodes("n1")
    s.submit("a", **spec)
    if state == "PENDING":
        return s
    s.plan()
    if state == "CONFIGURING":
        return s
    s.started("a")
    if state == "SUSPENDED":
        s.control("suspend", "a", uid=ROOT, admin=True)
    elif state == "COMPLETED":
        s.ended("a", code=0)
    assert s.state("a") == state
    return s


TABLE = [
    # verb, state before, outcome, state after, signals ordered
    ("cancel", "PENDING", "cancelled", "CANCELLED", []),
    ("cancel", "CONFIGURING", "cancelled", "CONFIGURING", [15]),
    ("cancel", "RUNNING", "cancelled", "RUNNING", [15]),
    ("cancel", "SUSPENDED", "cancelled", "SUSPENDED", [15]),
    ("cancel", "COMPLETED", "ended", "COMPLETED", []),
    ("hold", "PENDING", "done", "PENDING", []),
    ("hold", "RUNNING", "done", "RUNNING", []),
    ("hold", "COMPLETED", "ended", "COMPLETED", []),
    ("release", "PENDING", "done", "PENDING", []),
    ("release", "COMPLETED", "ended", "COMPLETED", []),
    ("requeue", "PENDING", "refused", "PENDING", []),
    ("requeue", "CONFIGURING", "done", "CONFIGURING", [15]),
    ("requeue", "RUNNING", "done", "RUNNING", [15]),
    ("requeue", "COMPLETED", "done", "PENDING", []),
    ("suspend", "PENDING", "refused", "PENDING", []),
    ("suspend", "RUNNING", "done", "SUSPENDED", [19]),
    ("suspend", "SUSPENDED", "refused", "SUSPENDED", []),
    ("suspend", "COMPLETED", "refused", "COMPLETED", []),
    ("resume", "RUNNING", "refused", "RUNNING", []),
    ("resume", "SUSPENDED", "done", "RUNNING", [18]),
]


@pytest.mark.parametrize(("verb", "before", "outcome", "after", "signals"), TABLE)
def test_each_verb_on_each_state(verb, before, outcome, after, signals) -> None:
    s = in_state(before)
    assert s.control(verb, "a", uid=ROOT, admin=True) == [outcome]
    assert s.state("a") == after
    assert s.kills() == signals


@pytest.mark.parametrize("verb", ["cancel", "hold", "release", "requeue", "suspend", "resume", "update"])
@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETED"])
def test_another_users_jobs_are_left_alone(verb, state) -> None:
    s = in_state(state)
    before = s.job("a")
    assert s.control(verb, "a", uid=BERT, changes={"name": "mine"}) == ["denied"]
    assert s.job("a") == before
    assert s.kills() == []


@pytest.mark.parametrize("verb", ["suspend", "resume"])
def test_only_administrators_suspend(verb) -> None:
    assert in_state("SUSPENDED").control(verb, "a") == ["denied"]


def test_an_unknown_job_is_unknown() -> None:
    s = in_state("PENDING")
    s.ids["ghost"] = 99
    assert s.control("cancel", "ghost") == ["unknown"]


# ---- cancel ----------------------------------------------------------------------------------------------------


def test_a_cancelled_pending_job_ends_there_and_then() -> None:
    s = in_state("PENDING")
    s.control("cancel", "a")
    assert (s.job("a").cancel_uid, s.job("a").end_at, s.job("a").start_at) == (ANNA, s.now, None)
    assert s.plan() == {}


@pytest.mark.parametrize(("how", "outcome"), [("never", "NEVER_STARTED"), ("killed", "EXITED")])
def test_a_cancelled_launch_never_started_or_was_killed_and_nothing_between(how, outcome) -> None:
    s = in_state("CONFIGURING")
    s.control("cancel", "a")
    s.fenced("a") if how == "never" else s.ended("a", signal=15, cancelled=True)
    assert (s.state("a"), s.outcomes("a")) == ("CANCELLED", [outcome])
    assert s.plan() == {}


def test_a_cancel_without_connection_is_kept_and_says_so() -> None:
    s = in_state("RUNNING").lose("n1")
    s.control("cancel", "a")
    assert "cannot be reached" in s.last.result[0].message
    s.connect("n1", s.entry("a", alive=True))
    assert s.kills() == [15]


@pytest.mark.parametrize(
    ("state", "signal", "outcome", "order"),
    [
        ("RUNNING", 10, "signalled", (10, False)),
        ("RUNNING", 9, "cancelled", (9, True)),
        ("PENDING", 10, "refused", None),
        ("PENDING", 9, "cancelled", None),
    ],
)
def test_scancel_with_a_signal(state, signal, outcome, order) -> None:
    s = in_state(state)
    assert s.control("cancel", "a", signal=signal) == [outcome]
    orders = [(e.signal, e.cancel) for e in s.last.effects if isinstance(e, KillLaunch)]
    assert orders == ([order] if order else [])


# ---- hold and release ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "user_hold", "reason", "user_may_release"),
    [(ANNA, False, "JobHeldUser", True), (ROOT, False, "JobHeldAdmin", False), (ROOT, True, "JobHeldUser", True)],
)
def test_who_holds_decides_who_may_release(by, user_hold, reason, user_may_release) -> None:
    s = in_state("PENDING")
    s.control("hold", "a", uid=by, admin=by == ROOT, user_hold=user_hold)
    assert s.reason("a") == reason
    assert s.plan() == {}
    assert s.control("release", "a") == ["done" if user_may_release else "denied"]
    assert bool(s.plan()) == user_may_release


def test_a_users_hold_does_not_loosen_an_administrators() -> None:
    s = in_state("PENDING")
    s.control("hold", "a", uid=ROOT, admin=True)
    s.control("hold", "a")
    assert s.control("release", "a") == ["denied"]
    assert s.reason("a") == "JobHeldAdmin"


# ---- requeue ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("how", ["killed", "never started", "failed", "lost"])
def test_a_requeue_of_a_launched_job_takes_effect_with_its_end(how, hold) -> None:
    s = in_state("CONFIGURING")
    s.control("requeue", "a", hold=hold)
    assert [effect.requeue for effect in s.last.effects if isinstance(effect, KillLaunch)] == [True]
    match how:
        case "killed":
            s.ended("a", signal=15, cancelled=True)
        case "never started":
            s.fenced("a")
        case "failed":
            s.ended("a", code=143)
        case "lost":
            s.sweep("n1", s.entry("a"))
    assert s.state("a") == "PENDING"
    assert s.reason("a") == ("JobHeldUser" if hold else "None")
    assert s.plan() == ({} if hold else {"a": "n1"})


def test_a_requeue_that_came_too_late_leaves_a_completed_job_completed() -> None:
    s = in_state("RUNNING")
    s.control("requeue", "a")
    s.ended("a", code=0)
    assert s.state("a") == "COMPLETED"


def test_no_requeue_is_respected() -> None:
    assert in_state("RUNNING", requeue="no").control("requeue", "a") == ["refused"]


def test_a_requeued_job_has_all_its_retries_again() -> None:
    s = in_state("RUNNING", retries=1)
    s.ended("a", code=1)
    s.run_to_end("a", code=1)
    assert s.state("a") == "FAILED"
    s.control("requeue", "a")
    assert (s.job("a").exit_code, s.job("a").failures) == (None, 0)
    s.run_to_end("a", code=1)
    assert s.state("a") == "PENDING"
    assert "env-a" in s.cluster.environments


def test_cancel_after_requeue_cancels() -> None:
    s = in_state("RUNNING")
    s.control("requeue", "a")
    s.control("cancel", "a")
    s.ended("a", signal=15, cancelled=True)
    assert s.state("a") == "CANCELLED"


def test_nothing_is_suspended_where_nobody_can_be_told() -> None:
    s = in_state("RUNNING").lose("n1")
    assert s.control("suspend", "a", uid=ROOT, admin=True) == ["refused"]
    assert s.state("a") == "RUNNING"


# ---- update ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "by", "outcome"),
    [
        ({"num_tasks": 2, "features": None}, ANNA, "done"),
        ({"time_limit_s": 30}, ANNA, "done"),
        ({"time_limit_s": 90}, ANNA, "denied"),
        ({"time_limit_s": -1}, ANNA, "denied"),
        ({"time_limit_s": 90}, ROOT, "done"),
        ({"nice": 5}, ANNA, "done"),
        ({"nice": -5}, ANNA, "denied"),
        ({"priority": 7}, ANNA, "done"),
        ({"priority": 4294967294}, ANNA, "denied"),
        ({"priority": 7}, ROOT, "done"),
        ({"partitions": ["nope"]}, ANNA, "refused"),
        ({"memory_mib": 10**6}, ANNA, "refused"),
        ({"uid": 0}, ROOT, "refused"),
    ],
)
def test_updates_of_a_pending_job(changes, by, outcome) -> None:
    s = in_state("PENDING", time_limit_s=60)
    before = s.job("a")
    assert s.control("update", "a", uid=by, admin=by == ROOT, changes=changes) == [outcome]
    assert (s.job("a") == before) == (outcome != "done")
    assert s.plan() == {"a": "n1"}


@pytest.mark.parametrize(("changes", "outcome"), [({"comment": "x"}, "done"), ({"num_tasks": 2}, "refused"), ({"time_limit_s": 5}, "done")])
def test_updates_of_a_running_job(changes, outcome) -> None:
    assert in_state("RUNNING", time_limit_s=60).control("update", "a", uid=ROOT, admin=True, changes=changes) == [outcome]


def test_an_update_of_the_begin_time_takes_effect() -> None:
    s = in_state("PENDING", begin_at=5000.0)
    s.control("update", "a", changes={"begin_at": None})
    assert s.plan() == {"a": "n1"}
