"""Bulk on lines of all kinds: what waits behind it waits little, and the line is full."""

from collections import deque

import pytest

from sshq.transport.pacing import UNDER_WAY_MIN, Pacer

STEP_S = 0.005
SLICE = 64 << 10
WINDOW = 2 << 20  # sshd's
TOLD = 96 << 10  # sshd tells of what it took so much at a time


def send(rates, delay_s, seconds):
    """What a line carried, in shares of what it could, and the longest wait behind bulk after the first second."""
    pacer, now, written, carried, taken, told = Pacer(0.0), 0.0, 0, 0.0, 0, 0
    sent, waits, could = deque(), [], 0.0
    while now < seconds:
        rate = rates(now)
        while written - told < min(pacer.limit, WINDOW):
            written += SLICE
            pacer.note_written(written, now)
        carried = min(written, carried + rate * STEP_S)
        could += rate * STEP_S
        sent.append((now + delay_s, carried))
        while sent and sent[0][0] <= now:
            taken = sent.popleft()[1]
        if taken - told >= TOLD or taken == written:
            told = int(taken)
        pacer.note_taken(told, now)
        if now > 1:
            waits.append((written - carried) / rate)
        now += STEP_S
    return carried / could, max(waits)


LINES = {  # bytes a second, delay there and back
    "0.5 Mbit/s": (62_500, 0.05), "4 Mbit/s": (500_000, 0.02), "4 Mbit/s by satellite": (500_000, 0.6), "100 Mbit/s": (12_500_000, 0.002),
    "100 Mbit/s across an ocean": (12_500_000, 0.1),
}  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_the_line_is_full_and_nobody_waits_long(line):
    rate, delay_s = LINES[line]
    share, wait_s = send(lambda _: rate, delay_s, 30)
    assert share > 0.9
    assert wait_s < max(1.0, (UNDER_WAY_MIN + TOLD) / rate)


def test_a_line_that_becomes_slower_or_faster_is_followed():
    share, _ = send(lambda now: 4_000_000 if now < 5 else 250_000, 0.02, 40)
    assert share > 0.8
    share, wait_s = send(lambda now: 250_000 if now < 10 else 4_000_000, 0.02, 40)
    assert share > 0.9
    assert wait_s < 1.2
