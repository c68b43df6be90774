"""The bed itself: does each verb do to a host what its name says?  Everything by plain ssh(1)."""

import os
import subprocess
import sys
import textwrap
import time

import pytest
import yaml

from bed import ODD, REPO, Instance, inventory_text, known_hosts_text, wait_until
from bed.session import is_zombie


def test_hosts_have_their_own_everything(hosts):
    a, b = hosts(2)
    assert a.ssh("hostname; echo a >/tmp/x; echo a >~/x").stdout.strip() == a.name
    assert b.ssh("ls /tmp ~; id -u").stdout.split() == ["/home/alice:", "/tmp:", "1001"]
    assert a.boot_id() != b.boot_id()
    assert float(a.sh("cat /proc/uptime").stdout.split()[0]) < 60
    assert len(a.ssh("ps -e -o pid=").stdout.split()) < 12
    assert b.ssh("cat ~/.ssh/authorized_keys", user="bob").returncode == 0


def test_a_cut_cable_leaves_the_job_running(hosts):
    (a,) = hosts()
    a.ssh("mkfifo ~/go; setsid sh -c 'read x <~/go; echo done >~/done' >/dev/null 2>&1 </dev/null &")
    a.cut()
    assert a.ssh("true", timeout_s=1).returncode == 255
    a.sh("echo >/home/alice/go")
    a.heal()
    a.wait_up()
    assert a.ssh("cat done").stdout == "done\n"


def test_filters_drop_and_reset(hosts):
    (a,) = hosts()
    a.nft("drop")
    assert not a.answers(0.3)
    a.heal()
    a.wait_up()
    a.reset()
    assert "refused" in a.ssh("true", timeout_s=2).stderr
    a.heal()
    a.rate(2000)
    start = time.monotonic()
    assert len(a.ssh("head -c 300000 /dev/zero").stdout) == 300000
    assert time.monotonic() - start > 0.8
    a.rate(None)


@pytest.mark.skipif(not os.access("/dev/net/tun", os.W_OK), reason="optional: /dev/net/tun is not writable")
def test_the_wire_delays(hosts):
    (a,) = hosts(wire="tap")
    start = time.monotonic()
    assert a.answers()
    a.shape(delay_ms=60)
    middle = time.monotonic()
    assert a.answers(5)
    assert time.monotonic() - middle > middle - start + 0.1


def test_a_reboot_is_a_new_boot(hosts):
    (a,) = hosts()
    before = a.boot_id()
    a.ssh("sleep 300 >/dev/null 2>&1 </dev/null & echo x >~/stays; echo x >/tmp/goes")
    a.reboot()
    assert a.boot_id() != before
    assert a.ssh("ls ~ /tmp; pgrep -x sleep").stdout.split()[:3] == ["/home/alice:", "stays", "/tmp:"]
    assert not a.exists("/tmp/goes")
    a.crash()
    assert "refused" in a.ssh("true", timeout_s=2).stderr
    a.power_on()


def test_sshd_may_hang_or_die_without_the_jobs(hosts):
    (a,) = hosts()
    a.ssh("sleep 300 >/dev/null 2>&1 </dev/null &")
    session = subprocess.Popen(["ssh", "-F", "none", "-i", a.key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                                f"alice@{a.addr}", "echo in; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
    assert session.stdout.readline() == b"in\n"
    a.sshd_signal("STOP")
    assert not a.answers(0.3)
    a.sshd_signal("CONT")
    a.wait_up()
    a.kill_sessions()
    assert session.wait(5) == 255
    session.communicate()
    assert a.ssh("pgrep -c sleep").stdout != "0\n"
    a.sshd_signal("KILL")
    wait_until(lambda: not a.answers(0.3), 5, "sshd gone")
    a.sshd_start()


def test_a_frozen_host_is_silent_until_it_thaws(hosts):
    (a,) = hosts()
    a.freeze()
    assert not a.answers(0.3)
    a.thaw()
    a.wait_up()


def test_full_read_only_and_shared_directories(hosts, tmp_path):
    a, b = hosts(2)
    a.tmpfs("/home/alice/small", "16k")
    assert "No space" in a.ssh("head -c 100000 /dev/zero >small/f").stderr
    a.umount("/home/alice/small")
    a.tmpfs("/home/alice/few", "1m", inodes=3)
    assert "No space" in a.ssh("touch few/1 few/2 few/3 few/4").stderr
    a.read_only("/home")
    assert "Read-only" in a.ssh("touch ~/x").stderr
    a.read_only("/home", on=False)
    assert a.ssh("touch ~/x").returncode == 0
    tmp_path.chmod(0o777)
    for host in (a, b):
        host.share(str(tmp_path), "/mnt/nfs")
    a.ssh("echo hi >/mnt/nfs/f")
    assert b.ssh("cat /mnt/nfs/f").stdout == "hi\n"


def test_a_host_with_another_clock(hosts, need):
    (a,) = hosts()
    try:
        a.skew(3600)
    except IndexError:
        pytest.skip("apt-get install libfaketime")
    assert 3590 < int(a.ssh("date +%s").stdout) - time.time() < 3610


@pytest.mark.parametrize("kind", ODD)
def test_odd_nodes_are_as_odd_as_they_say(hosts, kind):
    host = hosts.odd(kind)
    known = f"{host.dir}/known_hosts"
    with open(known, "w", encoding="utf-8") as file:
        file.write(known_hosts_text([host]))
    strict = ["-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={known}", "-o", "LogLevel=INFO"]
    if host.helpers:
        jump = f"ssh -F none -i {host.helpers[0].key} -o UserKnownHostsFile={known} -o IdentitiesOnly=yes -W %h:%p alice@{host.helpers[0].addr}"
        strict += ["-o", f"ProxyCommand={jump}"]
    done = host.ssh("echo $0 is the shell; exec /bin/sh -c 'echo \"(\"in\")\"; exit 3'", opts=strict, env={**os.environ, **host.env}, timeout_s=3)
    lets_in = ODD[kind].usable or kind == "missing_tools"
    assert (done.returncode == 3 and "(in)" in done.stdout) == lets_in, done
    if kind == "noisy_bashrc":
        assert done.stdout.startswith("Welcome")
    if kind in ("tcsh", "fish", "zsh", "ksh"):
        assert host.sh("grep ^alice: /etc/passwd").stdout.strip().split("/")[-1].startswith(kind[:3])
    if kind == "busybox":
        assert host.ssh("command -v bash python3 sftp-server").stdout == ""
    if kind == "changed_host_key":
        assert "IDENTIFICATION HAS CHANGED" in done.stderr
    if kind == "max_sessions_1":
        assert "MaxSessions 1\n" in host.read("/etc/ssh/sshd_config")


def test_loopback_hosts_have_their_own_homes(loopback):
    homes = {host.ssh("echo $HOME; hostname >/dev/null").stdout.strip() for host in loopback.hosts}
    assert homes == {host.home for host in loopback.hosts}
    assert all(host.known_hosts_line.startswith(f"[{host.addr}]:2222 ssh-ed25519 ") for host in loopback.hosts)


def test_the_inventory_of_a_bed_is_ansibles(loopback):
    a, b, *_ = loopback.hosts
    text = inventory_text([a, b], groups={"fast": ([a.name], {"sshq_max_time": "1:00"})}, host_vars={b.name: {"sshq_slots": 7}})
    content = yaml.safe_load(text)["all"]
    assert content["hosts"][b.name]["sshq_slots"] == 7
    assert content["hosts"][a.name]["ansible_host"] == a.addr
    assert content["children"]["fast"] == {"hosts": {a.name: None}, "vars": {"sshq_max_time": "1:00"}}


def test_an_instance_leaves_no_process_and_no_directory(loopback):
    one = Instance()
    left = subprocess.Popen(["sleep", "300"], env=one.env, start_new_session=True)
    one.use(loopback.hosts)
    assert len(f"{one.sshq_home}/sock") < 60
    one.close()
    assert left.wait(5) == -9
    assert not os.path.exists(one.dir)


def test_a_killed_session_is_swept(tmp_path):
    """SIGKILL of the test process: its guard removes hosts, links, namespaces and directories."""
    script = tmp_path / "victim.py"
    script.write_text(
        textwrap.dedent("""
        import os, signal, sys
        sys.path.insert(0, sys.argv[1])
        import bed
        hosts = bed.LoopbackBed(1).hosts if bed.why_no_netns() else bed.NetnsBed().add(1)
        print(bed.session().slot, hosts[0].process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """)
    )
    done = subprocess.run([sys.executable, script, f"{REPO}/tests"], capture_output=True, text=True, timeout=60, check=False)
    slot, pid = map(int, done.stdout.split())
    wait_until(lambda: is_zombie(pid), 10, "the host's processes gone")
    wait_until(lambda: not os.path.exists(f"/tmp/sshq-t{slot}"), 10, "the session's directory gone")
    assert not os.path.exists(f"/sys/class/net/sq{slot}br")
    assert not [name for name in os.listdir("/run/netns") if name.startswith(f"sq{slot}-")] if os.path.isdir("/run/netns") else True


def test_an_instance_is_a_whole_sshq(instances):
    """The verbs of `Instance` on the embedded localhost, a kill -9 between."""
    one, other = instances(), instances()
    for each in (one, other):
        each.up()
    one.ready()
    job = one.wrap(f"echo $PPID; while [ ! -e {one.work}/go ]; do sleep 0.05; done")
    one.until_state(job, "RUNNING")
    assert one.status()["pid"] == one.kill9()
    assert not one.status()
    assert other.pid()
    one.up()
    with open(f"{one.work}/go", "w", encoding="utf-8"):
        pass
    assert one.until_state(job, "COMPLETED", "FAILED") == "COMPLETED"
    assert one.read(f"slurm-{job}.out").strip().isdigit()
    one.restart()
    assert one.state(job) == "COMPLETED"
    pid = one.pid()
    one.close()
    assert is_zombie(pid)
    assert other.pid()
