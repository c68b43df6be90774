"""The controller's log: one line for each thing said, whatever is in it."""

import logging

import pytest

from sshq.controller.logfile import EscapingFormatter, Lines, RotatingLog


@pytest.fixture
def log(tmp_path):
    handler = RotatingLog(tmp_path / "log", maxBytes=300, backupCount=2)
    handler.setFormatter(EscapingFormatter())
    logger = logging.getLogger("sshq.test")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)
    handler.close()


def test_lines_of_one_record_are_lines_of_the_log_and_none_begins_another(log, tmp_path):
    log.info(Lines(["job=1 started", "job=2 ended \n2026-01-01 \x1b[31mforged"]))
    log.info("job=%d host=%s", 3, "a\nb")
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        "INFO sshq.test job=1 started", "INFO sshq.test job=2 ended \\n2026-01-01 \\x1b[31mforged", "INFO sshq.test job=3 host=a\\nb",
    ]  # fmt: skip
    assert len({line.split(" ", 1)[0] for line in lines[:2]}) == 1


def test_the_log_rotates_by_size_also_when_lines_come_together(log, tmp_path):
    for number in range(6):
        log.info(Lines([f"{number} {'x' * 90}", f"{number} {'y' * 90}"]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert str(Lines(["a", "b"])) == "a\nb"
