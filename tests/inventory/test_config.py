"""config.yaml: defaults, units, and the same care about faults as in the inventory."""

from dataclasses import fields
from pathlib import Path

import pytest

from sshq.errors import InventoryError
from sshq.inventory.config import CONFIG_KEYS, Config, find_config, format_config, format_config_keys, load_config, parse_config
from sshq.inventory.values import format_duration


def parse(text: str) -> Config:
    return parse_config(text.encode(), "config.yaml")


def test_without_a_file_and_with_an_empty_one_the_defaults_hold(tmp_path: Path) -> None:
    assert load_config(None) == Config()
    (tmp_path / "config.yaml").write_text("# nothing\n")
    path = str(tmp_path / "config.yaml")
    assert load_config(path) == Config(path=path)


def test_every_setting_has_a_row_and_every_row_a_setting() -> None:
    assert {key.field for key in CONFIG_KEYS.values()} == {row.name for row in fields(Config)} - {"path", "origins"}


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("finished_keep: 2h", "finished_keep_s", 7200),
        ("finished_keep: 600", "finished_keep_s", 600),
        ("history_keep: 52w", "history_keep_s", 52 * 7 * 86400),
        ("history_keep: never", "history_keep_s", None),
        ("backup_interval: never", "backup_interval_s", None),
        ("default_time: 1:30:00", "default_time_s", 5400),
        ("default_time: UNLIMITED", "default_time_s", None),
        ("default_memory: 2G", "default_memory_mib", 2048),
        ("log_size: 1G", "log_size_mib", 1024),
        ("log_size: 5", "log_size_mib", 5),
        ("script_max: 512K", "script_bytes_max", 512 * 1024),
        ("environment_max: 2M", "environment_bytes_max", 2 << 20),
        ("log_level: DEBUG", "log_level", "debug"),
        ("others_may_list: yes", "others_may_list", True),
        ("state_dir: /var/lib/sshq/", "state_dir", "/var/lib/sshq"),
        ("kill_wait: 1m", "kill_wait_s", 60),
    ],
)
def test_values_and_their_units(text: str, field: str, value: object) -> None:
    config = parse("# first line\n" + text)
    assert getattr(config, field) == value
    assert config.origins == {field: "config.yaml:2"}


def test_a_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    assert parse("state_dir: ~/sshq").state_dir == "/home/anna/sshq"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("log_levl: info", "1:1: unknown setting `log_levl`|did you mean `log_level`?"),
        ("colour: red", "1:1: unknown setting `colour`|hint: sshq config --keys"),
        ("log_level: inf", "1:12: `log_level` is debug, info, warning or error, not `inf`|did you mean `info`?"),
        ("kill_wait: 2d", "1:12: `kill_wait` is a time like 30s, 15m, 24h or 7d, from 1s to 1h, not `2d`|"),
        ("finished_keep: 5 minutes", "1:16: `finished_keep` is a time like 30s, 15m, 24h or 7d, from 5m to 365d|"),
        ("history_keep: 1h", "1:15: `history_keep` is a time like 30s, 15m, 24h or 7d, from 1d to 36500d, or never|"),
        ("log_size: 1K", "1:11: `log_size` is a size like 4M, from 1M to 1024M, not `1K`|"),
        ("log_size: 1025K", "1:11: `log_size` is a size like 4M|"),
        ("socket: sock", "1:9: `socket` is an absolute path or ~/…, not `sock`|"),
        ("socket: /" + "x" * 107, "1:9: the path of a socket has at most 107 bytes|"),
        ("default_time: 2h", "1:15: `default_time`: times are minutes|did you mean `2:00:00`?"),
        ("jobs_max: many", "1:11: `jobs_max` is a whole number from 1 to 10000000, not `many`|"),
        ("others_may_list: perhaps", "1:18: `others_may_list` is true or false, not `perhaps`|"),
        ("audit: true\naudit: false", "2:1: `audit` stands already in line 1 of this mapping|"),
        ("- log_level", "1:1: settings are a mapping, not a list|"),
        ("log:\n  level: info", "1:1: unknown setting `log`|"),
    ],
)
def test_faults_name_their_place(text: str, shown: str) -> None:
    with pytest.raises(InventoryError) as caught:
        parse(text)
    message, more = shown.split("|")
    rendered = caught.value.render("sshq")
    assert rendered.startswith(f"sshq: error: config.yaml:{message}")
    assert more in rendered


def test_a_missing_file_says_so() -> None:
    with pytest.raises(InventoryError, match="/nowhere/config.yaml: no such file"):
        load_config("/nowhere/config.yaml")


def test_the_file_is_found_beside_the_inventory(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".config" / "sshq").mkdir(parents=True)
    assert find_config({"SSHQ_HOME": str(tmp_path)}, str(home)) is None
    (tmp_path / "config.yaml").touch()
    (home / ".config" / "sshq" / "config.yaml").touch()
    assert find_config({"SSHQ_HOME": str(tmp_path)}, str(home)) == str(tmp_path / "config.yaml")
    assert find_config({}, str(home)) == str(home / ".config" / "sshq" / "config.yaml")


def test_what_is_shown_says_where_it_comes_from_and_reads_back() -> None:
    shown = format_config(parse("kill_wait: 90s\nlog_size: 20M\n"))
    assert "kill_wait           = 90s               config.yaml:1\n" in shown
    assert "finished_keep       = 1d                default\n" in shown
    words = ("the usual place", "none")
    lines = [line.rsplit("   ", 1)[0] for line in shown.splitlines()]
    again = "\n".join(line.replace(" = ", ": ", 1) for line in lines if not line.rstrip().endswith(words))
    config = parse(again)
    assert (config.kill_wait_s, config.log_size_mib, config.default_time_s) == (90, 20, None)
    assert all(f"{name}: " in format_config_keys() for name in CONFIG_KEYS)


def test_durations_are_shown_in_the_largest_whole_unit() -> None:
    assert [format_duration(s) for s in (0, 30, 90, 3600, 86400, 14 * 86400, None)] == ["0s", "30s", "90s", "1h", "1d", "2w", "never"]
