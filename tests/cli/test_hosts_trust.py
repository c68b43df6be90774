"""sshq hosts trust against real sshds: shown, compared, recorded only when somebody said so."""

import os
import pty
import subprocess

import pytest


@pytest.fixture
def untrusted(instance, loopback):
    """An inventory of two hosts whose keys nobody has recorded."""
    hosts = list(loopback.hosts[:2])
    instance.use(hosts)
    os.unlink(f"{instance.home}/.ssh/known_hosts")
    instance.names = [host.name for host in hosts]
    instance.prints = {}
    for host in hosts:
        line = host.known_hosts_line
        done = subprocess.run(["ssh-keygen", "-lf", "-"], input=line, capture_output=True, text=True, check=True)
        instance.prints[host.name] = done.stdout.split()[1]
    return instance


def test_without_a_terminal_nothing_is_recorded_unless_it_was_named(untrusted):
    first, second = untrusted.names
    done = untrusted.run("hosts", "trust", first)
    assert done.returncode == 1
    assert untrusted.prints[first] in done.stdout
    assert f"{first}: not recorded, as nobody can be asked here" in done.stderr
    done = untrusted.run("hosts", "trust", first, "--fingerprint", "SHA256:" + "A" * 43)
    assert done.returncode == 1
    assert "none of its keys has that fingerprint" in done.stderr
    done = untrusted.run("hosts", "trust", first, "--fingerprint", untrusted.prints[first])
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{first}: recorded" in done.stdout
    done = untrusted.run("hosts", "trust", first)
    assert (done.returncode, done.stdout) == (0, f"{first}: its key is recorded already\n")
    assert untrusted.run("hosts", "trust", second).returncode == 1


def test_all_hosts_are_recorded_at_once_when_told_so(untrusted):
    done = untrusted.run("hosts", "trust", "--all", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert untrusted.up().returncode == 0
    untrusted.ready()
    assert untrusted.run("sbatch", "-W", "-o", "/dev/null", "--wrap", "true").returncode == 0


def test_a_running_controller_uses_a_new_key_at_once(untrusted):
    first = untrusted.names[0]
    untrusted.up()
    assert untrusted.run("sinfo", "-h", "-o", "%T").returncode == 0
    assert untrusted.run("hosts", "trust", first, "-y").returncode == 0
    untrusted.ready(first, timeout_s=15)


def test_on_a_terminal_it_asks(untrusted):
    first = untrusted.names[0]
    for answer, status in (("n", 1), ("y", 0)):
        ours, theirs = pty.openpty()
        os.write(ours, f"{answer}\n".encode())
        process = untrusted.start("hosts", "trust", first, stdin=theirs)
        stdout, stderr = process.communicate(timeout=60)
        os.close(ours)
        os.close(theirs)
        assert (process.returncode, stderr) == (status, "")
        assert f"Record the key of {first} [y/N]?" in stdout


def test_names_nobody_knows_are_an_error(untrusted):
    done = untrusted.run("hosts", "trust", "nosuch")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "sshq: error: no such host in the inventory: nosuch\n    hint: sshq inventory\n"
