"""sshq doctor on real hosts: it says in plain words what is wrong, and leaves nothing behind."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from bed import ODD, Host, inventory_text, known_hosts_text
from sshq.controller import doctor
from sshq.controller.doctor import examine_hosts
from sshq.controller.doctor_checks import Look, Silence, judge_clock, judge_logout, judge_silence
from sshq.controller.hosts import target_of
from sshq.inventory.facts import Facts
from sshq.inventory.load import load_inventory
from sshq.inventory.model import Host as InventoryHost
from sshq.runner import protocol as rp
from sshq.transport.base import Deadlines
from sshq.transport.pool import Transports

QUICK = Deadlines(connect_s=5, login_s=8, open_s=5, drain_s=5, close_s=2)
Report = Mapping[str, object]


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A head with a HOME of its own: nobody's keys, agent or configuration take part."""
    (tmp_path / ".ssh").mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    yield tmp_path
    os.environ.pop("SSH_AUTH_SOCK", None)  # an odd host's agent; monkeypatch brings back what was there before


def load(head: Path, hosts: Sequence[Host], **variables: object) -> list[InventoryHost]:
    (head / ".ssh/known_hosts").write_text(known_hosts_text(hosts))
    helpers = [helper for host in hosts for helper in host.helpers]
    stanzas = [f"Host {h.addr}\n  User {h.user}\n  IdentityFile {h.key}\n  IdentitiesOnly yes\n" for h in helpers]
    with (head / ".ssh/config").open("a") as file:
        file.write("".join(stanzas))
    for host in hosts:
        os.environ.update(host.env)
    (head / "inventory.yaml").write_text(inventory_text(hosts, **variables))
    return list(load_inventory(str(head / "inventory.yaml")).hosts.values())


def examine(head: Path, hosts: Sequence[InventoryHost], store_id: str = "thestore", local_base: str | None = None) -> list[Report]:
    async def scenario() -> list[Report]:
        transports = Transports(known_hosts=str(head / "ours"), deadlines=QUICK)
        try:
            return await examine_hosts(hosts, transports.transport, store_id=store_id, local_base=local_base)
        finally:
            await transports.close()

    return asyncio.run(scenario())


def checks_of(report: Report, *verdicts: str) -> dict[str, str]:
    """The checks with these verdicts, as text: detail and hint."""
    found: dict[str, str] = {}
    for check in report["checks"]:  # type: ignore[union-attr]
        if check["verdict"] in verdicts:
            found[check["check"]] = found.get(check["check"], "") + f"{check['detail']}\n{check['hint'] or ''}\n"
    return found


def text_of(report: Report) -> str:
    return str(report["checks"])


def test_a_good_host_is_usable_and_told_in_ok_lines(loopback, head):
    (report,) = examine(head, load(head, loopback.hosts[:1]))
    assert report["ok"] is True
    assert not checks_of(report, "fail", "warn")
    assert {"connection", "host key", "auth", "shell", "tools", "spool", "clock", "signals", "channels", "logout", "machine"} == set(
        checks_of(report, "ok")
    )


def test_nothing_is_left_behind_and_a_live_runner_is_not_disturbed(loopback, head):
    host = loopback.hosts[1]
    (node,) = load(head, [host])

    async def scenario() -> tuple[list[Report], list[rp.Reply]]:
        transports = Transports(known_hosts=str(head / "ours"), deadlines=QUICK)
        connection = await transports.transport(target_of(node)).connect()
        channel = await connection.open()
        parser = rp.ReplyParser("n1")
        channel.write(rp.encode_bootstrap(nonce="n1", store_id="thestore", base=node.spool))
        while not any(isinstance(reply, rp.Hello) for reply in parser.feed(await channel.read(deadline_s=10))):
            pass
        reports = await examine_hosts([node], transports.transport, store_id="thestore", local_base=None)
        channel.write(rp.encode_ping(tag="alive"))
        replies = parser.feed(await channel.read(deadline_s=10))
        channel.write(rp.encode_purge(tag="p"))
        with contextlib.suppress(Exception):
            await channel.wait_closed(5)
        await connection.close()
        await transports.close()
        return reports, replies

    reports, replies = asyncio.run(scenario())
    assert reports[0]["ok"] is True
    assert isinstance(replies[0], rp.Pong)
    # Other tests of this bed may have left a store of their own there.
    left = os.listdir(f"{host.vars['sshq_spool']}/spool")
    assert not [name for name in left if name.startswith("doctor-") or name == "thestore"]


def test_hosts_are_examined_side_by_side_in_the_order_given(loopback, head):
    reports = examine(head, load(head, loopback.hosts))
    assert [report["name"] for report in reports] == [host.name for host in loopback.hosts]
    assert all(report["ok"] for report in reports)


def test_a_port_where_nobody_listens_is_told_as_refused(loopback, head):
    (node,) = load(head, loopback.hosts[:1])
    host = loopback.hosts[0]
    (head / ".ssh/known_hosts").write_text(f"[{host.addr}]:1 {host.recorded_key}\n")
    (head / "inventory.yaml").write_text(inventory_text([host], host_vars={host.name: {"ansible_port": 1}}))
    (node,) = load_inventory(str(head / "inventory.yaml")).hosts.values()
    (report,) = examine(head, [node])
    assert report["ok"] is False
    assert "refuses connections" in checks_of(report, "fail")["connection"]


def test_a_name_nobody_knows_is_told(head):
    (head / ".ssh/known_hosts").write_text("nowhere.invalid ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ\n")
    (report,) = examine(head, [InventoryHost(name="x", address="nowhere.invalid", identity_files=("/dev/null",))])
    assert report["ok"] is False


def test_this_machine_itself_is_examined_without_ssh(head):
    (report,) = examine(head, [InventoryHost(name="localhost", address="localhost", connection="local")], local_base=str(head / "base"))
    assert report["ok"] is True
    assert str(head / "base") in checks_of(report, "ok")["spool"]
    assert os.listdir(head / "base/spool") == []


SPOILED = {
    "open to others": ("mkdir -p {base} && chmod 777 {base}", "is open to others", "chmod 700"),
    "a link": ("mkdir -p {base}.real && ln -s {base}.real {base}", "symbolic link", "sshq_spool"),
    "a file": ("mkdir -p $(dirname {base}) && touch {base}", "cannot make", "sshq_spool"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_spool_that_cannot_be_used_is_told_with_the_way_out(loopback, head, how):
    command, words, hint = SPOILED[how]
    host = loopback.hosts[2]
    base = f"{host.home}/{secrets.token_hex(4)}/base"
    host.sh(f"umask 077; {command.format(base=base)}")
    nodes = load(head, [host])
    (head / "inventory.yaml").write_text(inventory_text([host], host_vars={host.name: {"sshq_spool": base}}))
    nodes = list(load_inventory(str(head / "inventory.yaml")).hosts.values())
    (report,) = examine(head, nodes)
    assert report["ok"] is False
    assert words in checks_of(report, "fail")["spool"]
    assert hint in checks_of(report, "fail")["spool"]


def test_options_of_ssh_that_have_no_effect_are_named_with_their_place(loopback, head):
    nodes = load(head, loopback.hosts[:1])
    (head / ".ssh/config").write_text("Host *\n  StrictHostKeyChecking no\n  ControlMaster auto\n")
    (report,) = examine(head, nodes)
    assert f"{head}/.ssh/config:2" in checks_of(report, "warn")["ssh options"]
    assert "controlmaster" in checks_of(report, "ok")["ssh options"]
    assert report["ok"] is True


def test_the_inventory_that_promises_too_much_is_told(loopback, head):
    (report,) = examine(head, load(head, loopback.hosts[:1], sshq_cpus=60000))
    assert "sshq_cpus is 60000" in checks_of(report, "warn")["machine"]


UNUSABLE = {
    "changed_host_key": ("host key", "HOST KEY CHANGED", "sshq hosts trust"),
    "unknown_host_key": ("host key", "host key unknown", "sshq hosts trust"),
    "bad_key": ("auth", "offered: ", "ssh -v"),
    "missing_tools": ("tools", "setsid, perl or python3", "util-linux"),
    "force_command": ("shell", "This account is for file transfer only.", "exec /bin/sh"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_an_unusable_host_is_told_why_and_what_to_do(hosts, head, kind):
    check, words, hint = UNUSABLE[kind]
    (report,) = examine(head, load(head, [hosts.odd(kind)]))
    assert report["ok"] is False
    assert words in checks_of(report, "fail")[check]
    assert hint in checks_of(report, "fail")[check]
    assert ODD[kind].why in text_of(report)


ODD_BUT_USABLE = {
    "noisy_bashrc": ("shell", "noisy login shell"),
    "max_sessions_1": ("channels", "MaxSessions"),
    "read_only_home": ("", ""),
    "busybox": ("signals", "SIGINT"),
    "proxy_jump": ("", ""),
    "agent": ("", ""),
    "fish": ("", ""),
}


@pytest.mark.parametrize("kind", ODD_BUT_USABLE)
def test_an_odd_host_that_works_is_usable_with_its_oddness_told(hosts, head, kind):
    check, words = ODD_BUT_USABLE[kind]
    (report,) = examine(head, load(head, [hosts.odd(kind)], sshq_nice=0))
    assert not checks_of(report, "fail")
    assert words in checks_of(report, "warn").get(check, "")


def test_a_node_without_nice_is_usable_and_told_what_comes_of_it(hosts, head):
    (report,) = examine(head, load(head, [hosts.odd("busybox")]))
    assert report["ok"] is True
    assert "missing: nice" in checks_of(report, "warn")["tools"]
    assert "sshq_nice: 0" in checks_of(report, "warn")["tools"]


def test_faults_of_machines_are_told(hosts, head):
    skewed, bare, full, gone = hosts(4)
    skewed.skew(3600)
    bare.remove_tools("mkfifo", "setsid", "perl", "python3")
    full.tmpfs("/home/alice/small", size="64k", mode="0700", owner="alice")
    full.sh("head -c 1000000 /dev/zero >/home/alice/small/fill", check=False)
    full.vars["sshq_spool"] = "/home/alice/small/base"
    gone.cut()
    reports = examine(head, load(head, [skewed, bare, full, gone]))
    assert "60 min ahead" in checks_of(reports[0], "warn")["clock"]
    assert "mkfifo" in checks_of(reports[1], "fail")["tools"]
    assert "full" in checks_of(reports[2], "fail")["spool"]
    assert "does not answer" in checks_of(reports[3], "fail")["connection"]
    assert not full.sh("ls /home/alice/small/base/spool", check=False).stdout.strip()


def test_hosts_that_hang_are_given_up_and_the_others_keep_their_report(hosts, head, monkeypatch):
    good, frozen = hosts(2)
    nodes = load(head, [good, frozen])
    frozen.freeze()
    monkeypatch.setattr(doctor, "EXAMINATION_S", 1.5)
    first, second = examine(head, nodes)
    assert first["ok"] is True
    assert "no end within" in checks_of(second, "fail")["connection"]


# ---- what cannot be made on this machine ----------------------------------------------------------------------------

HOST = InventoryHost(name="ws1", address="ws1")


def test_a_clock_is_wrong_only_beyond_doubt():
    assert judge_clock(1000, asked_at=1000.9, answered_at=1001.2).verdict == "ok"
    assert judge_clock(1035, asked_at=1000, answered_at=1008).verdict == "ok"
    assert judge_clock(1100, asked_at=1000, answered_at=1001).detail.startswith("99 s ahead of")
    assert judge_clock(900, asked_at=1000, answered_at=1001).detail.startswith("99 s behind")


def test_kill_user_processes_spares_root_only():
    facts = Facts(kill_user_processes=True)

    def hello(uid: int) -> rp.Hello:
        return rp.Hello(
            nonce="n", protocol=1, spool_version=1, boot="b", uid=uid, user="alice", home="/", shell="/bin/sh", spool="/s", spool_id="i",
            fs="ext4", gen=0, floor=rp.Floor(), pid=2, start=1, uptime_s=1.0, clock_at=1, signals="env", setsid="setsid", took_over=False,
        )  # fmt: skip

    assert judge_logout(facts, hello(1000), HOST).verdict == "fail"
    assert judge_logout(facts, hello(0), HOST).verdict == "ok"
    assert judge_logout(Facts(), hello(1000), HOST).verdict == "ok"


@pytest.mark.parametrize(
    ("silence", "shell", "words"),
    [
        (Silence(said=b"nope\x1b[31m", stderr=b"", ended=True, exit_code=1, waited_s=12), False, "it said: nope?[31m"),
        (Silence(said=b"", stderr=b"", ended=False, exit_code=None, waited_s=12), False, "within 12 s"),
        (Silence(said=b"", stderr=b"sh: syntax error", ended=True, exit_code=2, waited_s=12), True, "on stderr: sh: syntax error"),
    ],
)
def test_silence_is_told_by_what_came_instead(silence, shell, words):
    check = judge_silence(silence, Look(shell=shell), HOST)
    assert check.verdict == "fail"
    assert words in check.detail
