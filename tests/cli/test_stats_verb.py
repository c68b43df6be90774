"""sshq stats: what is printed of a reply, and what a real controller replies."""

import json

TIMES = {"count": 4, "total_s": 0.04, "p50_s": 0.01, "p99_s": 0.02, "max_s": 0.025}
REPLY = {
    "uptime_s": 7200.0, "pid": 4711, "events": 120, "events_a_second": 0.0166667, "events_a_second_recent": 2.0,
    "batches": {"count": 60, "mean": 2.0, "p50": 1, "p99": 8, "max": 9}, "commits": TIMES,
    "passes": {**TIMES, "count": 3, "starts": 5},
    "requests": {"jobs": TIMES, "ping": {"count": 1, "total_s": 0.0, "p50_s": None, "p99_s": None, "max_s": 0.0}},
    "queue": {"jobs": 10, "considered": 7, "shapes": 2, "open_launches": 3, "mailbox": 1, "outputs": 4, "clients": 2},
    "memory": {"bytes": 52428800, "peak_bytes": 62914560}, "store": {"database_bytes": 2048, "log_bytes": 3 << 30},
    "hosts": {
        "n1": {"state": "ready", "note": "", "connections_opened": 3, "opened_today": 2, "refused_today": 1, "channels_open": 1,
               "channels_opened": 9, "channels_peak": 2, "bytes_in": 1536, "bytes_out": 100, "round_trips": TIMES},
        "n2": {"state": "unreachable", "note": "no route", "round_trips": {"count": 0, "p50_s": None}},
    },
}  # fmt: skip
TEXT = """\
controller  pid 4711, up 2 h
events      120, 0.0/s, in the last minute 2.0/s
batches     60, of 2.0 items on average, most 9
commits     4, p50 10.00 ms, p99 20.00 ms, max 25.00 ms
passes      3, p50 10.00 ms, p99 20.00 ms, max 25.00 ms, 5 starts
queue       10 jobs, 7 to be considered in 2 shapes, 3 launches open
waiting     1 in the mailbox, 2 clients connected, 4 outputs on their way home
memory      50.0 MiB, at most 60.0 MiB
store       2.0 KiB, log 3.0 GiB

REQUEST    COUNT    P50 MS    P99 MS    MAX MS
jobs       4        10.00     20.00     25.00
ping       1        -         -         0.00

HOST    STATE        TRIP MS    IN       OUT    CHANNELS    OPENED TODAY    REFUSED TODAY    LISTINGS
n1      ready        10.00      1.5 KiB  100 B  1 (most 2)  2               1                4
n2      unreachable  -          0 B      0 B    0 (most 0)  0               0                0
"""


def test_stats_for_people_and_programs(controller, sshq):
    controller.answers["stats"] = REPLY
    done = sshq("stats")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split() for line in done.stdout.splitlines()] == [line.split() for line in TEXT.splitlines()]
    assert json.loads(sshq("stats", "--json").stdout) == REPLY


def test_a_reply_of_another_release_is_shown_as_far_as_it_goes(controller, sshq):
    controller.answers["stats"] = {"pid": 1, "hosts": {"n1": {}}, "requests": "none"}
    done = sshq("stats")
    assert (done.returncode, done.stderr) == (0, "")
    assert "controller  pid 1, up 0 s\n" in done.stdout and "events      0, 0.0/s" in done.stdout
