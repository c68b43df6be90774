"""The process that asks hosts without a controller: one JSON document, bounded time, nothing left behind."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from bed import Host, Instance

Object = dict[str, object]


def ask(instance: Instance, verb: str, params: Mapping[str, object] | str, *, inventory: str | None = None) -> tuple[int, Object]:
    """Run it as the commands do."""
    text = params if isinstance(params, str) else json.dumps(params)
    argv = [sys.executable, "-P", "-s", "-m", "sshq.controller.adhoc", verb, text, "--state", f"{instance.sshq_home}/state"]
    argv += ["--socket", f"{instance.sshq_home}/sock", "--home", instance.sshq_home]
    if inventory or os.path.exists(instance.inventory):
        argv += ["--inventory", inventory or instance.inventory]
    done = subprocess.run(argv, env=instance.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    return done.returncode, json.loads(done.stdout)


def nodes_of(info: Object) -> dict[str, Object]:
    return {str(node["name"]): node for node in info["nodes"]}  # type: ignore[union-attr, index]


def forget_keys(instance: Instance) -> None:
    Path(instance.home, ".ssh/known_hosts").write_text("")


def spools(host: Host) -> list[str]:
    base = str(host.vars.get("sshq_spool", ""))
    return os.listdir(f"{base}/spool") if os.path.isdir(f"{base}/spool") else []


# ---- info ------------------------------------------------------------------------------------------------------------


def test_info_shows_what_the_hosts_say_and_leaves_nothing_there(instance, loopback):
    instance.use(loopback.hosts, groups={"fast": [loopback.hosts[0].name]})
    before = [spools(host) for host in loopback.hosts]
    code, info = ask(instance, "info", {})
    assert code == 0
    nodes = nodes_of(info)
    assert set(nodes) == {host.name for host in loopback.hosts}
    for node in nodes.values():
        assert (node["state"], node["unreachable"], node["note"]) == ("IDLE", False, None)
        assert node["slots"] == 2
        assert node["cpus"] >= 1
        assert node["memory_mib"] > 0
        assert node["load"] is not None
    assert [partition["name"] for partition in info["partitions"]] == ["lab", "fast"]
    assert info["inventory"]["path"] == instance.inventory
    assert [spools(host) for host in loopback.hosts] == before


def test_info_without_an_inventory_is_about_this_machine(instance):
    code, info = ask(instance, "info", {})
    assert code == 0
    assert nodes_of(info)["localhost"]["state"] == "IDLE"


@pytest.mark.slow
def test_hosts_that_cannot_be_asked_are_unknown_with_the_reason_and_hold_nobody_up(instance, hosts):
    good, cut, unknown, frozen = hosts(4)
    instance.use([good, cut, unknown, frozen])
    cut.cut()
    unknown.recorded_key = None
    instance.use([good, cut, unknown, frozen])
    frozen.freeze()
    began = time.monotonic()
    code, info = ask(instance, "info", {})
    assert time.monotonic() - began < 15
    assert code == 0
    nodes = nodes_of(info)
    assert nodes[good.name]["state"] == "IDLE"
    for host in (cut, unknown, frozen):
        assert nodes[host.name]["state"] == "UNKNOWN"
        assert nodes[host.name]["unreachable"] is True
        assert nodes[host.name]["note"]
    assert f"sshq hosts trust {unknown.name}" in str(nodes[unknown.name]["note"])


def test_sinfo_answers_without_a_controller_and_says_so(instance, loopback):
    instance.use(loopback.hosts[:2])
    done = instance.run("sinfo", "-h", "-N", "-o", "%N %t")
    assert done.returncode == 0
    assert done.stdout.split() == [loopback.hosts[0].name, "idle", loopback.hosts[1].name, "idle"]
    assert "asking the hosts themselves" in done.stderr


# ---- inventory-probe, doctor -----------------------------------------------------------------------------------------


def test_inventory_probe_adds_what_the_machines_say(instance, loopback):
    instance.use(loopback.hosts[:2], host_vars={loopback.hosts[1].name: {"ansible_port": 1}})
    code, found = ask(instance, "inventory-probe", {})
    assert code == 0
    first, second = found["hosts"]
    assert (first["state"], first["slots"], first["note"]) == ("ready", 2, "")
    assert first["spool"] == f"{loopback.hosts[0].vars['sshq_spool']}/spool"
    assert second["state"] == "host_key"
    assert instance.run("inventory", "--probe").returncode == 0


def test_doctor_examines_those_named(instance, loopback):
    instance.use(loopback.hosts)
    code, found = ask(instance, "doctor", {"names": [loopback.hosts[1].name]})
    assert code == 0
    assert [(host["name"], host["ok"]) for host in found["hosts"]] == [(loopback.hosts[1].name, True)]


def test_doctor_by_the_command_with_and_without_a_controller(instance, loopback):
    instance.use(loopback.hosts[:2])
    alone = instance.run("doctor", "-v", loopback.hosts[0].name)
    assert alone.returncode == 0
    assert alone.stdout.startswith(f"{loopback.hosts[0].name}: usable\n")
    instance.up()
    instance.ready()
    done = instance.run("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "".join(f"{host.name}: usable\n" for host in loopback.hosts[:2])
    assert instance.state(instance.wrap("true")) in ("", "PENDING", "CONFIGURING", "RUNNING", "COMPLETED")
    instance.until_state(1, "COMPLETED")


# ---- trust -----------------------------------------------------------------------------------------------------------


def test_an_unknown_host_is_fetched_recorded_and_then_used(instance, loopback):
    host = loopback.hosts[0]
    instance.use([host])
    forget_keys(instance)
    code, found = ask(instance, "trust", {"op": "fetch", "names": [host.name], "all": False})
    assert code == 0
    (one,) = found["hosts"]
    assert (one["name"], one["known"], one["error"]) == (host.name, "unknown", None)
    (key,) = one["keys"]
    assert key["line"] == host.recorded_key
    assert key["fingerprint"].startswith("SHA256:")
    assert nodes_of(ask(instance, "info", {})[1])[host.name]["state"] == "UNKNOWN"

    chosen = {"name": host.name, "line": key["line"], "fingerprint": key["fingerprint"]}
    _, done = ask(instance, "trust", {"op": "record", "keys": [chosen]})
    assert [one["outcome"] for one in done["results"]] == ["recorded"]
    assert nodes_of(ask(instance, "info", {})[1])[host.name]["state"] == "IDLE"
    assert ask(instance, "trust", {"op": "record", "keys": [chosen]})[1]["results"][0]["outcome"] == "known"
    assert ask(instance, "trust", {"op": "fetch", "all": True})[1]["hosts"][0]["known"] == "same"


def test_a_changed_key_is_shown_with_the_old_one_and_replaced_only_when_recorded(instance, hosts):
    (host,) = hosts(1)
    instance.use([host])
    assert nodes_of(ask(instance, "info", {})[1])[host.name]["state"] == "IDLE"  # its line was taken over
    before = ask(instance, "trust", {"op": "fetch", "names": [host.name]})[1]["hosts"][0]
    assert before["known"] == "same"
    host.new_host_key()
    (one,) = ask(instance, "trust", {"op": "fetch", "names": [host.name]})[1]["hosts"]
    assert one["known"] == "changed"
    old = before["keys"][0]["fingerprint"]
    assert [key["fingerprint"] for key in one["recorded"]] == [old]
    assert nodes_of(ask(instance, "info", {})[1])[host.name]["state"] == "UNKNOWN"
    keys = [{"name": host.name, "line": key["line"], "fingerprint": key["fingerprint"]} for key in one["keys"]]
    (result,) = ask(instance, "trust", {"op": "record", "keys": keys})[1]["results"]
    assert result["outcome"] == "recorded"
    assert old in result["message"]
    assert nodes_of(ask(instance, "info", {})[1])[host.name]["state"] == "IDLE"


def test_an_unknown_jump_host_comes_first(instance, hosts):
    host = hosts.odd("proxy_jump")
    (jump,) = host.helpers
    instance.use([host])
    forget_keys(instance)
    gate, behind = ask(instance, "trust", {"op": "fetch", "names": [host.name]})[1]["hosts"]
    assert (gate["name"], gate["known"]) == (jump.addr, "unknown")
    assert behind["name"] == host.name
    assert "jump host" in behind["error"]
    keys = [{"name": gate["name"], "line": key["line"], "fingerprint": key["fingerprint"]} for key in gate["keys"]]
    assert ask(instance, "trust", {"op": "record", "keys": keys})[1]["results"][0]["outcome"] == "recorded"
    (behind,) = ask(instance, "trust", {"op": "fetch", "names": [host.name]})[1]["hosts"]
    assert (behind["error"], behind["known"]) == (None, "unknown")
    # The jump host can be named itself, as the transport's hints do.
    assert ask(instance, "trust", {"op": "fetch", "names": [jump.addr]})[1]["hosts"][0]["known"] == "same"

    jump.new_host_key()
    changed, behind = ask(instance, "trust", {"op": "fetch", "names": [host.name]})[1]["hosts"]
    assert (changed["name"], changed["known"]) == (jump.addr, "changed")
    assert "jump host" in behind["error"]


def test_patterns_strangers_and_silent_hosts_each_get_their_answer(instance, loopback):
    first, second = loopback.hosts[:2]
    instance.use([first, second], host_vars={second.name: {"ansible_port": 1}})
    found = ask(instance, "trust", {"op": "fetch", "names": [f"{first.name[:-1]}*", "stranger"]})[1]["hosts"]
    answers = {one["name"]: one for one in found}
    assert answers[first.name]["known"] == "same"
    assert "refuses connections" in answers[second.name]["error"]
    assert "no such host" in answers["stranger"]["error"]
    assert ask(instance, "trust", {"op": "fetch", "names": ["stranger"]})[1]["hosts"] == []


def test_the_command_records_by_fingerprint(instance, loopback):
    host = loopback.hosts[3]
    instance.use([host])
    forget_keys(instance)
    _, found = ask(instance, "trust", {"op": "fetch", "names": [host.name]})
    fingerprint = found["hosts"][0]["keys"][0]["fingerprint"]
    wrong = instance.run("hosts", "trust", host.name, "--fingerprint", "SHA256:" + "A" * 43)
    assert wrong.returncode == 1
    right = instance.run("hosts", "trust", host.name, "--fingerprint", fingerprint)
    assert right.returncode == 0, right.stderr
    assert instance.run("sinfo", "-h", "-o", "%t").stdout.strip() == "idle"


# ---- what it refuses ---------------------------------------------------------------------------------------------------

SOME_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ"


@pytest.mark.parametrize(
    ("verb", "params", "words"),
    [
        ("info", "{", "not JSON"),
        ("info", "[]", "no object"),
        ("doctor", {"names": "h1"}, "list of host names"),
        ("trust", {"op": "fetch"}, "name hosts"),
        ("trust", {"op": "burn"}, "no such operation"),
        ("trust", {"op": "record"}, "no keys"),
        ("trust", {"op": "record", "keys": [{"name": "h1"}]}, "needs name, line and fingerprint"),
        ("trust", {"op": "record", "keys": [{"name": "h1", "line": "junk", "fingerprint": "SHA256:x"}]}, "not a public key"),
        ("trust", {"op": "record", "keys": [{"name": "h1", "line": SOME_KEY, "fingerprint": "SHA256:x"}]}, "has the fingerprint"),
    ],
)
def test_what_cannot_be_understood_is_one_error_object(instance, verb, params, words):
    code, document = ask(instance, verb, params)
    assert code == 1
    error = document["error"]
    assert error["code"] == "bad_request"
    assert words in error["message"]


def test_a_broken_inventory_is_told_with_its_place(instance):
    instance.write_inventory("all:\n  hosts:\n    a: {sshq_slotz: 2}\n")
    code, document = ask(instance, "info", {})
    assert code == 1
    assert f"{instance.inventory}:3:" in document["error"]["message"]
    assert document["error"]["exit"] == 1


def test_the_inventory_in_force_may_name_nobody_to_record(instance, loopback):
    instance.use(loopback.hosts[:1])
    _, found = ask(instance, "trust", {"op": "fetch", "all": True})
    key = found["hosts"][0]["keys"][0]
    chosen = {"name": "somebody", "line": key["line"], "fingerprint": key["fingerprint"]}
    (result,) = ask(instance, "trust", {"op": "record", "keys": [chosen]})[1]["results"]
    assert result["outcome"] == "unknown"


