"""`sshq shared`: half of the hosts share a directory, all do, none does; declared, away, and a directory where nobody may write."""

import json
import os

from .test_skeleton import share_directory


def shown(instance, *words, **keys):
    done = instance.run("shared", *words, **keys)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def rows(text):
    return [line.split() for line in text.splitlines()]


def test_half_share_it_and_one_is_away_and_the_directory_is_left_as_it_was(hosts, instance):
    near, far, away = hosts(3)
    shared = share_directory([near], instance)
    instance.use([near, far, away])
    instance.write_config("keepalive_interval: 1s\nkeepalive_count: 2\nconnect_timeout: 3s\n")
    instance.up()
    instance.ready()
    away.cut()
    os.mkdir(f"{shared}/sub")
    instance.wait_for(lambda: f"host={away.name} state=unreachable" in instance.logs(), 60, "one to be away")
    told = shown(instance, "sub", cwd=shared)
    head, *table = told.splitlines()
    assert head.startswith(f"{shared}/sub is ") and head.endswith(" on the head")
    assert table[0].split() == ["HOST", "SHARED", "HOW", "IT", "IS", "KNOWN", "THERE"]
    words = {line.split()[0]: line for line in table[1:]}
    assert words[near.name].split()[1:6] == ["yes", "it", "sees", "our", "token"]
    assert words[far.name].split()[1:] == "no it does not see our token the directory is not there".split()
    assert words[away.name].split()[1] == "unknown"
    assert os.listdir(f"{shared}/sub") == []
    found = json.loads(shown(instance, "--json", cwd=shared))
    assert (found["path"], found["token"]) == (shared, True)
    by_name = {host["name"]: (host["shared"], host["evidence"]) for host in found["hosts"]}
    assert by_name == {near.name: (True, "token"), far.name: (False, "token"), away.name: (None, "")}
    assert {"name", "shared", "evidence", "there", "identity"} <= set(found["hosts"][0])


def test_all_share_it_or_none_or_the_inventory_says_so(hosts, instance):
    one, two = hosts(2)
    shared = share_directory([one, two], instance)
    two.vars["sshq_shared"] = ["/nowhere", instance.work]
    instance.use([one, two])
    instance.up()
    instance.ready()
    assert [line[:6] for line in rows(shown(instance, shared))[2:]] == [[h.name, "yes", "it", "sees", "our", "token"] for h in (one, two)]
    told = rows(shown(instance))
    assert told[2][:7] == [one.name, "no", "it", "does", "not", "see", "our"]
    assert told[3][:11] == [two.name, "yes", *"sshq_shared says so, but does not see the token".split()]
    # Nobody writes in /proc: each machine has its own, and that is not known by a token.
    head, note, *table = shown(instance, "/proc").splitlines()
    assert (head, note) == ("/proc is proc proc on the head", "you may not write there, so no host can prove it")
    assert [line.split() for line in table[1:]] == [[h.name, "unknown", "proc", "proc"] for h in (one, two)]


def test_what_is_no_directory_is_one_error(hosts, instance):
    instance.use(hosts(1))
    instance.up()
    done = instance.run("shared", "nothing")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "sshq: error: nothing is not a directory\n")
    with open(f"{instance.work}/x", "w"):
        pass
    done = instance.run("shared", "x")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "sshq: error: x is not a directory\n")
