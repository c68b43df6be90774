"""Reading ssh's configuration: checked against `ssh -G`, and what has no effect is listed for the doctor."""

import subprocess
from pathlib import Path

import pytest

from sshq.errors import UnreachableHostError
from sshq.transport.base import Target
from sshq.transport.login import rekey_after_s
from sshq.transport.options import resolve
from sshq.transport.sshconfig import find_ignored_options

CONFIG = """
Include lab/*.conf
Host plain
  HostName plain.example
Host both !other
  User first
  User second
Match host *.example
  IdentityFile ~/.ssh/of_example
Match originalhost both
  ProxyJump gate:2222
Host *
  User = "fall back"
  Port 2022
  IdentityFile ~/.ssh/everywhere
"""


@pytest.fixture
def config(home: Path) -> Path:
    (home / ".ssh" / "lab").mkdir()
    (home / ".ssh" / "lab" / "one.conf").write_text("Host inc\n  HostName %h.lab\n  HostKeyAlias the-lab\n  Port 7\n")
    path = home / ".ssh" / "config"
    path.write_text(CONFIG)
    return path


@pytest.mark.parametrize("address", ["plain", "both", "other", "inc", "x.example", "10.0.0.1"])
def test_a_host_resolves_as_ssh_itself_resolves_it(config: Path, home: Path, address: str) -> None:
    # ssh reads the real home's files unless told which one; relative Includes stay relative to the real ~/.ssh
    flat = home / "flat"
    flat.write_text(CONFIG.replace("Include lab/*.conf", f"Include {home}/.ssh/lab/*.conf"))
    said = subprocess.run(["ssh", "-G", "-F", flat, address], check=True, capture_output=True, text=True).stdout
    expected = dict(line.split(" ", 1) for line in reversed(said.splitlines()) if " " in line)
    resolved = resolve(Target(name="n", address=address))
    assert resolved.host == expected["hostname"]
    assert str(resolved.port) == expected["port"]
    assert resolved.account == expected["user"]
    assert resolved.lookup_name == expected.get("hostkeyalias", expected["hostname"])
    assert ",".join(resolved.jumps) == expected.get("proxyjump", "")
    named = [line.split(" ", 1)[1].replace("~", str(home)) for line in said.splitlines() if line.startswith("identityfile ")]
    assert list(resolved.identity_files) == named


def test_what_has_no_effect_is_listed_with_its_place(config: Path) -> None:
    config.write_text(
        "Host ws01\n  StrictHostKeyChecking no\n  ControlMaster auto\n  ForwardAgent no\n"
        "Host ws02\n  KnownHostsCommand /bin/evil\n"
        "Host *\n  UserKnownHostsFile=/dev/null\n  Include lab/*.conf\n"
    )
    (config.parent / "lab" / "one.conf").write_text("RevokedHostKeys /etc/revoked\n")
    target = Target(name="ws01", address="ws01", options=(("StrictHostKeyChecking", "accept-new"),))
    found = [(item.option.lower(), item.place) for item in find_ignored_options(target)]
    lab = config.parent / "lab" / "one.conf"
    assert [item for item in found if not item[1].startswith("/etc")] == [
        ("stricthostkeychecking", "inventory"),
        ("stricthostkeychecking", f"{config}:2"),
        ("controlmaster", f"{config}:3"),
        ("userknownhostsfile", f"{config}:8"),
        ("revokedhostkeys", f"{lab}:1"),
    ]
    assert all(item.why for item in find_ignored_options(target))


def test_a_file_of_ones_own_replaces_the_others(config: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("Port 99\n")
    assert resolve(Target(name="n", address="plain", ssh_config=str(own))).port == 99
    none = resolve(Target(name="n", address="plain", ssh_config="none"))
    assert (none.host, none.port, none.identity_files) == ("plain", 22, ())


def test_an_option_cannot_smuggle_in_a_second_line(config: Path) -> None:
    target = Target(name="n", address="x", options=(("HostKeyAlias", "a\nProxyCommand evil"),), ssh_config="none")
    with pytest.raises(UnreachableHostError, match="the inventory's ssh options, line 1: Extra data at end"):
        resolve(target)


def test_a_machine_wide_file_that_cannot_be_read_is_passed_over_and_told(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = tmp_path / "etc" / "ssh_config"
    machine.parent.mkdir()
    machine.write_text("Match sessiontype shell\n  Port 1\n")
    monkeypatch.setattr("sshq.transport.options.SYSTEM_CONFIG", str(machine))
    target = Target(name="n", address="plain")
    assert resolve(target).host == "plain.example"
    assert find_ignored_options(target)[-1].place.startswith(f"{machine} line 1")


def test_connections_take_new_keys_within_the_limit_and_not_all_at_once(config: Path) -> None:
    config.write_text("Host often\n  RekeyLimit default 10m\nHost never\n  RekeyLimit default none\n")

    def ask(address: str) -> list[float | None]:
        resolved = resolve(Target(name="n", address=address))
        return [rekey_after_s(resolved) for _ in range(50)]

    for address, limit_s in (("plain", 3600), ("often", 600)):
        found = [one for one in ask(address) if one is not None]
        assert len(set(found)) == 50 and limit_s / 2 <= min(found) <= max(found) <= limit_s
    assert not any(ask("never"))
