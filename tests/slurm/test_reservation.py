"""scontrol's words on reservations, read and shown."""

import pytest

from sshq.errors import OptionError
from sshq.slurm.reservation import parse_reservation, read_deleted, render_reservation

from .recordings import NOW, at

HOUR = 3600
START = ("StartTime=2030-01-02T00:00:00",)


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (("StartTime=now",), "start_at", NOW),
        (("Duration=2:00:00",), "duration_s", 2 * HOUR),
        (("dur=60",), "duration_s", HOUR),
        (("Nodes=n[1-2],n4",), "nodes", ["n1", "n2", "n4"]),
        (("nodes=all",), "nodes", ["ALL"]),
        (("NodeCnt=3",), "node_count", 3),
        (("Users=anna,bert",), "users", ["anna", "bert"]),
        (("Flags=maint,ignore_jobs,overlap",), "flags", ["MAINT", "IGNORE_JOBS", "OVERLAP"]),
        (("PartitionName=lab",), "partition", "lab"),
    ],
)
def test_pairs_are_read(words, key, value):
    found = parse_reservation(("reservationname=r", *words), NOW, update=True)
    assert (found.name, found.changes[key]) == ("r", value)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("Duration=5",), "A start time must be given."),
        (START, "An end time or duration must be given."),
        ((*START, "EndTime=2029-01-01"), "Start time cannot be after end time."),
        ((*START, "EndTime=2030-01-02T01:00:00", "Duration=5"), "StartTime + Duration does not equal EndTime."),
        ((*START, "Duration=5"), "CoreCnt, Nodes, NodeCnt, TRES or Watts must be specified."),
        ((*START, "Duration=5", "Nodes=ALL"), "Either Users/Groups and/or Accounts must be specified."),
        (("StartTime=whenever",), "Invalid start time whenever."),
        (("Duration=x",), "Invalid duration x."),
        (("Flags=NOSUCH",), "Error parsing flags NOSUCH."),
        (("Nodes=n[1",), "Invalid node list n[1."),
        (("NodeCnt=0",), "Invalid node count 0."),
        (("Licenses=x",), "Unknown parameter Licenses=x."),
    ],
)
def test_what_makes_no_reservation_is_told_as_slurm_does(words, text):
    with pytest.raises(OptionError) as caught:
        parse_reservation(("reservation", *words), NOW)
    assert caught.value.render("scontrol").startswith(f"scontrol: error: {text}  No reservation created.\n")
    assert caught.value.exit_code == 1


def test_the_name_to_delete_is_found():
    assert read_deleted(["ReservationName=r"]) == read_deleted(["reservation", "r"]) == "r"
    for words in ([], ["nodename=x"], ["partitionname=p"]):
        with pytest.raises(OptionError):
            read_deleted(words)


def test_one_is_shown_as_slurm_shows_it():
    one = {
        "name": "course", "start_at": at("2030-01-02T08:00:00"), "end_at": at("2030-01-02T10:30:00"), "nodes": ["n1", "n2"],
        "node_list": "n[1-2]", "cpus": 16, "users": ["anna"], "accounts": [], "flags": ["MAINT", "SPEC_NODES"], "partition": None,
    }  # fmt: skip
    assert render_reservation(one, at("2030-01-02T09:00:00")) == (
        "ReservationName=course StartTime=2030-01-02T08:00:00 EndTime=2030-01-02T10:30:00 Duration=02:30:00\n"
        "   Nodes=n[1-2] NodeCnt=2 CoreCnt=16 Features=(null) PartitionName=(null) Flags=MAINT,SPEC_NODES\n"
        "   TRES=cpu=16\n"
        "   Users=anna Groups=(null) Accounts=(null) Licenses=(null) State=ACTIVE BurstBuffer=(null) Watts=n/a\n"
        "   MaxStartDelay=(null)\n\n"
    )
    assert "State=INACTIVE" in render_reservation(one, at("2030-01-02T07:00:00"), oneline=True)
