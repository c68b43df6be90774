"""A host must show the key we know it by: where that key may come from, and what is never accepted."""

import hashlib
import hmac
import os
import secrets
import subprocess
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from sshq.errors import HostKeyError, UnreachableHostError
from sshq.transport.base import Target
from sshq.transport.hostkeys import HostKeys
from sshq.transport.knownhosts import KnownHostsFile, host_name, names_host, parse_line
from sshq.transport.pool import Transports

from .sshd import SshdHost, fingerprint, make_key, public_half
from .test_logins import fail, works

Start = Callable[..., SshdHost]
Reach = Callable[..., Target]
Known = Callable[..., Path]


def hash_name(name: str) -> str:
    salt = secrets.token_bytes(20)
    return f"|1|{b64encode(salt).decode()}|{b64encode(hmac.digest(salt, name.encode(), hashlib.sha1)).decode()}"


def refused(error: Exception, kind: str) -> HostKeyError:
    assert isinstance(error, HostKeyError)
    assert error.kind == kind
    assert error.hint is not None
    assert error.hint.startswith("sshq hosts trust ")
    return error


# -- with real servers


async def test_an_unknown_host_is_not_even_knocked_at(sshd: Start, reach: Reach, transports: Transports) -> None:
    host = sshd()
    error = refused(await fail(transports, reach(host, known_key=False)), "unknown")
    assert error.hint == "sshq hosts trust ws01"
    assert f"nothing vouches for 127.0.0.1:{host.port}" in error.message
    assert transports.host_keys.path in error.detail[0]
    assert not host.was_knocked_at()


async def test_first_use_takes_the_users_line_over_with_its_origin(
    sshd: Start, reach: Reach, transports: Transports, known: Known
) -> None:
    host = sshd()
    users = known("# a comment", f"{hash_name(f'[127.0.0.1]:{host.port}')} {public_half(host.host_key)} anna@desk")
    target = reach(host, known_key=False)
    await works(transports, target)
    (pinned,) = transports.host_keys.pinned("ws01")
    assert pinned.fingerprint == fingerprint(host.host_key)
    assert pinned.origin == f"{users}:2"
    assert os.stat(transports.host_keys.path).st_mode & 0o777 == 0o600
    users.unlink()
    await works(transports, target)
    assert transports.host_keys.pinned("ws01") == [pinned]


async def test_a_changed_key_is_refused_with_both_fingerprints_and_the_place(
    sshd: Start, reach: Reach, transports: Transports, known: Known
) -> None:
    host = sshd()
    target = reach(host)
    await works(transports, target)
    expected = fingerprint(host.host_key)
    host.change_host_key()
    error = refused(await fail(transports, target), "changed")
    text = "\n".join(error.detail)
    assert "HOST KEY CHANGED" in error.message
    assert f"expected: {expected}" in text
    assert f"received: {fingerprint(host.host_key)}" in text
    assert f"{transports.host_keys.path}:2" in text
    users = known(host.known_line())  # the user has accepted it meanwhile: still ours to decide, but said
    error = refused(await fail(transports, target), "changed")
    assert f"the received key stands in {users}:2" in "\n".join(error.detail)
    keys = await transports.fetch_host_keys(target)
    transports.host_keys.trust("ws01", keys, origin="sshq hosts trust")
    await works(transports, target)


async def test_a_key_of_another_kind_is_a_changed_key(sshd: Start, reach: Reach, transports: Transports) -> None:
    host = sshd()
    target = reach(host)
    host.change_host_key("ecdsa")
    error = refused(await fail(transports, target), "changed")
    assert any("ecdsa-sha2-nistp256" in line for line in error.detail)


async def test_a_key_of_port_22_is_not_taken_for_another_port(
    sshd: Start, reach: Reach, transports: Transports, known: Known
) -> None:
    host = sshd()
    users = known(host.known_line(name="127.0.0.1"))
    error = refused(await fail(transports, reach(host, known_key=False)), "unknown")
    assert any(f"{users}:1 has a key for `127.0.0.1`" in line and "not taken" in line for line in error.detail)


async def test_a_key_known_for_the_address_is_not_taken_for_a_name(
    sshd: Start, reach: Reach, transports: Transports, home: Path
) -> None:
    (home / ".ssh" / "config").write_text("Host ws01.lab\n  HostName 127.0.0.1\n  HostKeyAlias ws01.lab\n")
    host = sshd()
    refused(await fail(transports, reach(host, address="ws01.lab")), "unknown")


async def test_no_option_switches_the_check_off(sshd: Start, reach: Reach, transports: Transports, home: Path) -> None:
    off = "StrictHostKeyChecking no\nUserKnownHostsFile none\nGlobalKnownHostsFile /dev/null\nCheckHostIP no\n"
    (home / ".ssh" / "config").write_text(off)
    options = (("StrictHostKeyChecking", "no"), ("UserKnownHostsFile", "/dev/null"))
    refused(await fail(transports, reach(sshd(), options=options)), "unknown")


async def test_a_host_certificate_is_enough_and_its_authority_is_pinned(
    sshd: Start, reach: Reach, transports: Transports, known: Known, tmp_path: Path
) -> None:
    authority = make_key(tmp_path / "ca")
    host = sshd()
    subprocess.run(
        ["ssh-keygen", "-q", "-s", authority, "-h", "-I", "ws01", "-n", "127.0.0.1", f"{host.host_key}.pub"], check=True
    )
    host.config.append(f"HostCertificate {host.host_key}-cert.pub")
    host.stop()
    host.start()
    users = known(f"@cert-authority 127.0.0.* {public_half(authority)}")
    target = reach(host, known_key=False)
    await works(transports, target)
    (pinned,) = transports.host_keys.pinned("ws01")
    assert (pinned.marker, pinned.origin) == ("cert-authority", f"{users}:1")
    users.unlink()
    await works(transports, target)
    # The host comes back with a key that nobody signed.
    host.config.pop()
    host.stop()
    host.start()
    error = refused(await fail(transports, target), "unknown")
    assert "certificate" in error.message
    assert any(fingerprint(host.host_key) in line for line in error.detail)


async def test_a_certificate_for_another_host_is_refused(
    sshd: Start, reach: Reach, transports: Transports, known: Known, tmp_path: Path
) -> None:
    authority = make_key(tmp_path / "ca")
    host = sshd()
    subprocess.run(["ssh-keygen", "-q", "-s", authority, "-h", "-I", "x", "-n", "other.lab", f"{host.host_key}.pub"], check=True)
    host.config.append(f"HostCertificate {host.host_key}-cert.pub")
    host.stop()
    host.start()
    known(f"@cert-authority * {public_half(authority)}")
    refused(await fail(transports, reach(host, known_key=False)), "unknown")


async def test_a_revoked_key_is_refused_even_if_pinned(sshd: Start, reach: Reach, transports: Transports, known: Known) -> None:
    host = sshd()
    target = reach(host)
    await works(transports, target)
    users = known(f"@revoked * {public_half(host.host_key)}")
    error = refused(await fail(transports, target), "changed")
    assert "revoked" in error.message
    assert any(f"{users}:2" in line for line in error.detail)


async def test_fetched_keys_are_the_hosts_own_and_need_no_login(
    sshd: Start, reach: Reach, transports: Transports, tmp_path: Path
) -> None:
    rsa = make_key(tmp_path / "rsa", kind="rsa")
    host = sshd(f"HostKey {rsa}")
    target = reach(host, known_key=False)
    keys = await transports.fetch_host_keys(target)
    assert [key.kind for key in keys] == ["ssh-ed25519", "ssh-rsa"]
    assert [key.fingerprint for key in keys] == [fingerprint(host.host_key), fingerprint(rsa)]
    assert not host.count_logins()
    transports.host_keys.trust("ws01", keys[1:], origin="sshq hosts trust")
    await works(transports, target)  # the recorded kind is asked for first
    assert transports.host_keys.forget("ws01")
    refused(await fail(transports, target), "unknown")


async def test_fetching_from_a_dead_port_says_so(transports: Transports) -> None:
    from .sshd import free_port

    with pytest.raises(UnreachableHostError, match="refuses connections"):
        await transports.fetch_host_keys(Target(name="dead", address="127.0.0.1", port=free_port()))


async def test_malformed_lines_are_reported_and_passed_over(
    sshd: Start, reach: Reach, transports: Transports, known: Known
) -> None:
    users = known("|1|broken", "|1|!|! ssh-ed25519 AAAA", "@what ws01 ssh-ed25519 AAAA", "one-word", "\xff\xfe", "")
    host = sshd()
    known(f"[127.0.0.1]:{host.port} ssh-ed25519 AAAAnonsense")
    await works(transports, reach(host))
    problems = transports.host_keys.problems()
    assert len(problems) == 6
    assert all(problem.startswith(f"{users}:") for problem in problems)


# -- without a server


@pytest.fixture
def key_lines(tmp_path: Path) -> list[str]:
    return [public_half(make_key(tmp_path / f"k{number}")) for number in range(2)]


def test_a_name_of_any_kind_can_be_recorded(tmp_path: Path, key_lines: list[str]) -> None:
    from sshq.transport.hostkeys import FetchedKey

    keys = HostKeys(str(tmp_path / "kh"))
    names = ["ws01", "ws 01", "@revoked", "#x", "a,b", "*", "ws01.lab", "[gate]:22", "größe"]
    for name in names:
        keys.trust(name, [FetchedKey(kind="ssh-ed25519", fingerprint="", line=key_lines[0])], origin=f"test of\n{name}")
    for name in names:
        assert [key.line for key in keys.pinned(name)] == [key_lines[0]]
    assert not keys.pinned("ws02")
    assert not keys.problems()
    assert HostKeys(str(tmp_path / "kh")).pinned("ws01")[0].origin == "test of ws01"


def test_trusting_replaces_and_two_writers_lose_nothing(tmp_path: Path, key_lines: list[str]) -> None:
    from sshq.transport.hostkeys import FetchedKey

    path = str(tmp_path / "state" / "kh")
    one, two = HostKeys(path), HostKeys(path)
    for number in range(10):
        for keys, name in ((one, f"a{number}"), (two, f"b{number}")):
            keys.trust(name, [FetchedKey(kind="", fingerprint="", line=key_lines[0])], origin="x")
    one.trust("b3", [FetchedKey(kind="", fingerprint="", line=key_lines[1])], origin="y")
    assert [key.line for key in two.pinned("b3")] == [key_lines[1]]
    assert all(two.pinned(f"a{number}") and one.pinned(f"b{number}") for number in range(10))
    assert len(Path(path).read_text().splitlines()) == 21


@pytest.mark.parametrize(
    ("patterns", "name", "found"),
    [
        ("ws01", "ws01", True),
        ("ws01,10.0.0.1", "10.0.0.1", True),
        ("WS01", "ws01", True),
        ("ws0?", "ws01", True),
        ("*.lab,!ws09.lab", "ws01.lab", True),
        ("*.lab,!ws09.lab", "ws09.lab", False),
        ("[ws01]:2222", "[ws01]:2222", True),
        ("[ws01]:2222", "ws01", False),
        ("[*]:2222", "[ws01]:2222", True),
        ("[w]s01", "ws01", False),
        ("ws.1", "wsx1", False),
        pytest.param(hash_name("[ws01]:2222"), "[ws01]:2222", True, id="hashed"),
        pytest.param(hash_name("ws01"), "ws02", False, id="hashed-other"),
    ],
)
def test_patterns_name_hosts_as_in_openssh(patterns: str, name: str, found: bool) -> None:
    assert names_host(patterns, name) is found


def test_names_are_written_as_openssh_writes_them(tmp_path: Path) -> None:
    """The oracle: `ssh-keygen -F` finds what we would look for, hashed by `ssh-keygen -H`."""
    key = public_half(make_key(tmp_path / "key"))
    for host, port in (("WS01.lab", 22), ("ws01", 2222), ("10.0.0.1", 22), ("fe80::1", 2222)):
        name = host_name(host, port)
        path = tmp_path / "kh"
        path.write_text(f"{name} {key}\n")
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True, capture_output=True)
        assert subprocess.run(["ssh-keygen", "-F", name, "-f", path], check=False, capture_output=True).returncode == 0
        (line,) = KnownHostsFile(str(path)).lines()
        assert names_host(line.patterns, name)


def test_a_line_is_split_into_its_fields() -> None:
    line = parse_line("@cert-authority *.lab ssh-ed25519 AAAA a comment", "kh:1")
    assert (line.marker, line.patterns, line.key_text, line.comment) == (
        "cert-authority", "*.lab", "ssh-ed25519 AAAA", "a comment",
    )  # fmt: skip
