"""How often a host is tried: at once where that costs it nothing, seldom where it is a login, three times where it is refused."""

import itertools

import pytest

from sshq.controller.patience import LOGIN_REST_S, Patience
from sshq.errors import HostKeyError, LoginError, NodeError, NoReplyError, UnreachableHostError
from sshq.inventory.config import Config

NOW = 1_000_000_000.0


def unheard() -> UnreachableHostError:
    error = UnreachableHostError("ws01: does not answer", host="ws01")
    error.unheard = True
    return error


def pauses(patience: Patience, error: NodeError, n: int) -> list[float]:
    return [patience.judge(error, NOW).pause_s for _ in range(n)]


def test_a_dead_peer_is_found_within_a_minute_by_default() -> None:
    config = Config()
    assert config.keepalive_interval_s * (config.keepalive_count + 1) <= 60


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (unheard(), [1, 2, 4, 8, 10, 10, 10, 10]),
        (UnreachableHostError("ws01: closed the connection", host="ws01"), [1, 2, 4, 8, 16, 32, 60, 60]),
        (NoReplyError("ws01: no POSIX shell answered", host="ws01"), [1, 2, 4, 8, 16, 32, 60, 60]),
        (HostKeyError("ws01: HOST KEY CHANGED", kind="changed", host="ws01"), [60, 60]),
    ],
    ids=["nobody there", "turned away", "no shell", "host key changed"],
)
def test_the_pause_grows_with_what_a_try_costs_the_host(error: NodeError, expected: list[float]) -> None:
    assert pauses(Patience(), error, len(expected)) == expected


def test_a_host_that_was_dead_for_long_and_then_turns_us_away_once_is_tried_again_soon() -> None:
    patience = Patience()
    pauses(patience, unheard(), 100)
    assert patience.judge(NoReplyError("ws01: booting", host="ws01"), NOW).pause_s <= 10


def test_after_three_refused_logins_there_is_one_try_an_hour_until_somebody_has_done_something() -> None:
    refused = LoginError("ws01: login refused", host="ws01")
    patience = Patience()
    rests = [patience.judge(refused, NOW) for _ in range(6)]
    assert [rest.pause_s for rest in rests] == [1, 2, *[LOGIN_REST_S] * 4]
    assert {rest.state for rest in rests} == {"auth_failed"}
    assert "sshq hosts retry ws01" in rests[2].note


def test_a_host_that_has_let_us_in_has_half_a_minute_to_find_our_key_again() -> None:
    refused = LoginError("ws01: login refused", host="ws01")
    patience = Patience()
    patience.note_login()
    assert sum(pauses(patience, refused, 2)) >= 30
    assert pauses(patience, refused, 1) == [LOGIN_REST_S]
    patience.note_login()
    assert pauses(patience, refused, 1) != [LOGIN_REST_S], "counted from the last time it let us in"


def test_no_ban_counts_that_slowly() -> None:
    """fail2ban and sshguard look at three to five failures in ten to thirty minutes."""
    refused = LoginError("ws01: login refused", host="ws01")
    patience = Patience()
    at = list(itertools.accumulate(pauses(patience, refused, 30), initial=0.0))
    for start in at[3:]:
        assert sum(start <= one < start + 1800 for one in at) == 1
